"""Teach an image classifier your own categories, on your own machine, in seconds, and put it to work.

from retrain import Classifier, TrainOptions, train
train("photos", TrainOptions(quality="good"))
for guess in Classifier.load().guess(["image.jpg"]): print(guess.label, guess.confidence)
"""

import importlib

__version__ = "0.1.0"

# The public verbs, fetched on first use: importing retrain must cost nothing.
_HOMES = {
    "Classifier": "retrain.classifier",
    "GraphClassifier": "retrain.graph_classifier",
    "RetrainError": "retrain.errors",
    "TrainOptions": "retrain.options",
    "TrustOptions": "retrain.options",
    "GraphOptions": "retrain.options",
    "EvaluateOptions": "retrain.options",
    "ExportOptions": "retrain.options",
    "DatasetOptions": "retrain.options",
    "SortOptions": "retrain.options",
    "ExplainOptions": "retrain.options",
    "OddOptions": "retrain.options",
    "FilmOptions": "retrain.options",
    "LearnOptions": "retrain.options",
    "CleanOptions": "retrain.options",
    "CrawlOptions": "retrain.options",
    "EmbedOptions": "retrain.options",
    "load_imagenet": "retrain.imagenet",
    "crawl": "retrain.recipes.crawling",
    "learn": "retrain.recipes.learning",
    "train": "retrain.recipes.training",
    "train_like": "retrain.recipes.repeating",
    "evaluate": "retrain.recipes.evaluating",
    "explain_pictures": "retrain.recipes.explaining",
    "guess_film": "retrain.recipes.filming",
    "find_odd_one_out": "retrain.recipes.odd_one_out",
    "export_dataset": "retrain.recipes.exporting",
    "export": "retrain.exports.writing",
    "clean": "retrain.recipes.cleaning",
    "undo_clean": "retrain.recipes.cleaning",
    "sort_dir": "retrain.recipes.sorting",
    "undo_sort": "retrain.recipes.sorting",
    "embed": "retrain.recipes.embedding",
    "draw_sample": "retrain.recipes.sampling",
}
__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'retrain' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
