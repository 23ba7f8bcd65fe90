"""How fast it is.  Each benchmark is a module with `measure(bench)`, which returns rows and ratios."""
