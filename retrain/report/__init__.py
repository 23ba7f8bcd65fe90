"""Self-contained HTML pages: about a trained model, what `learn` recognised, and the suspects that `clean` found."""

from retrain.report.advice import advise, advise_on_labels
from retrain.report.learned import write_learned
from retrain.report.multilabel import LabelEvidence, render_multilabel, write_multilabel
from retrain.report.suspects import write_suspects
from retrain.report.trained import Evidence, render_report, write_report

__all__ = [
    "Evidence", "LabelEvidence", "advise", "advise_on_labels", "render_multilabel", "render_report", "write_learned",
    "write_multilabel", "write_report", "write_suspects",
]  # fmt: skip
