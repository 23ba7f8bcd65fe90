"""python -m retrain.compat PROGRAM [ARGUMENT…]"""

import sys

from retrain.compat import PROGRAMS, main

if len(sys.argv) < 2 or sys.argv[1] not in PROGRAMS:
    sys.exit(f"Usage: python -m retrain.compat {{{','.join(PROGRAMS)}}} [ARGUMENT…]")
sys.exit(main(sys.argv[1], sys.argv[2:]))
