"""Self-contained HTML pages: about a trained model, what `learn` recognised, and the suspects that `clean` found."""

from retrain.report.advice import advise
from retrain.report.learned import write_learned
from retrain.report.suspects import write_suspects
from retrain.report.trained import Evidence, render_report, write_report

__all__ = ["Evidence", "advise", "render_report", "write_learned", "write_report", "write_suspects"]
