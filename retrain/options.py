"""The options of each command and their defaults, which stand nowhere else."""

import os
from dataclasses import dataclass
from pathlib import Path

from retrain.errors import RetrainError

SPLITS = ["content", "legacy"]
ENGINES = ["local", "ray"]
BALANCES = ["weight", "cut", "none"]
QUALITIES = {  # chosen from docs/frontier.md
    "fast": "efficientnet-lite0",
    "good": "efficientnet-lite0+efficientnet-lite1",
    "best": "efficientnet-lite1+efficientnet-lite0",  # and the first of them, fine-tuned
}


def tf_files():
    """The user's folder for data and models: `TF_FILES`, or `tf_files` where the command was started."""
    return Path(os.environ.get("TF_FILES") or "tf_files")


def default_model_dir():
    return tf_files() / "model"


def default_data():
    return tf_files() / "data"


def default_export():
    return tf_files() / "export"


@dataclass(frozen=True)
class FaceOptions:
    """Whether faces are looked at instead of pictures."""

    faces: bool = False
    i_have_consent: bool = False  # of the people on crawled pictures


@dataclass(frozen=True)
class DataOptions:
    """Which pictures of a folder are used, and how they are split."""

    only: tuple[str, ...] = ()  # classes; none: all
    split: str = "content"  # content | legacy, as the original retrain.py: by a hash of the path
    test_share: float = 0.1  # of the pictures, kept back to measure
    validation_share: float = 0.1
    group_by: str = ""  # regular expression; names with the same first group in it are never split up
    balance: str = "weight"  # weight: small classes count as much as large ones; cut: all to the smallest; none
    max_per_class: int | None = None  # pictures
    min_size: tuple[int, int] = (0, 0)  # px, width and height; smaller pictures are left out
    multi_label: bool = False  # a picture may lie in several class folders; implied by a labels.csv


@dataclass(frozen=True)
class TrainOptions(DataOptions, FaceOptions):
    model_dir: str | Path | None = None  # None: default_model_dir()
    quality: str = "fast"  # a key of QUALITIES
    backbone: str | None = None  # overrides quality; several joined by +
    seed: int = 0  # deals the folds of cross-validation
    fine_tune: bool = False  # quality best: always
    max_minutes: float = 10  # for fine-tuning
    log_dir: str | Path | None = None  # for TensorBoard's event files
    reject_rate: float = 0.05  # share of pictures guessed right that guess and sort may call unknown; 0: none
    report: bool = True

    @property
    def fine_tunes(self):
        return self.fine_tune or self.quality == "best"


@dataclass(frozen=True)
class DatasetOptions(DataOptions):
    model_dir: str | Path | None = None  # whose store of embeddings tells which pictures are copies
    size: int = 224  # px, square
    crop: float = 0.875  # of the shorter side, around the middle: what the networks see


@dataclass(frozen=True)
class ExportOptions:
    model_dir: str | Path | None = None
    out: str | Path | None = None  # each format has a folder of its name there; None: default_export()
    data: str | Path | None = None  # the pictures of the model; None: where training saw them last


@dataclass(frozen=True)
class EngineOptions:
    """What embeds many pictures: this machine, or a Ray cluster."""

    engine: str = "local"  # local | ray
    address: str | None = None  # of the cluster: HOST:PORT, or auto; None: one of this machine alone is begun

    def __post_init__(self):
        if self.address is not None and self.engine != "ray":
            raise RetrainError("--address is that of a Ray cluster.", "Add --engine ray, or leave it out.")


@dataclass(frozen=True)
class EmbedOptions(EngineOptions):
    backbone: str = QUALITIES["fast"]  # several joined by +


@dataclass(frozen=True)
class TrustOptions:
    """From where on a guess counts."""

    threshold: float = 0.0  # below this confidence a picture is unknown
    reject_rate: float | None = None  # share of pictures guessed right that may be called unknown; None: as trained
    coverage: float | None = None  # share of pictures whose candidates hold the true label; None: no candidates


@dataclass(frozen=True)
class GuessOptions(TrustOptions):
    top: int | None = None  # labels shown; None: 5 as text, all as JSON


@dataclass(frozen=True)
class GraphOptions:
    """What a graph of the original programs takes and gives.  None: as it says itself, or as its kind is known for."""

    input_layer: str | None = None
    output_layer: str | None = None
    input_height: int | None = None  # px
    input_width: int | None = None  # px
    input_mean: float | None = None  # pixels enter as (0..255 - mean) / std
    input_std: float | None = None
    assumed: tuple[int, float, float] | None = None  # px, mean and std that an old program takes for granted


@dataclass(frozen=True)
class ImageNetOptions:
    top: int = 5  # labels shown, as text and as JSON
    threshold: float = 0.0  # below this confidence a picture is unknown


@dataclass(frozen=True)
class FilmOptions:
    every_s: float = 0.2  # s from one frame that is looked at to the next; 0: every frame
    smooth_s: float = 0.5  # s in which a film tells as much as one picture; 0: each frame stands for itself


@dataclass(frozen=True)
class EvaluateOptions(TrustOptions, EngineOptions, FaceOptions):
    model_dir: str | Path | None = None
    only: tuple[str, ...] = ()
    html: str | Path | None = None  # a page with the mistakes and charts


@dataclass(frozen=True)
class SortOptions(TrustOptions, EngineOptions, FaceOptions):
    model_dir: str | Path | None = None
    mode: str = "copy"  # copy | move | link
    layout: str = "folders"  # folders | flat
    dry_run: bool = False


@dataclass(frozen=True)
class ServeOptions(TrustOptions):
    model_dir: str | Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    name: str = "retrain"  # of the model, where a protocol asks for one
    token: str | None = None  # that each request must bring
    insecure: bool = False  # without a token on other addresses than this machine's own
    max_bytes: int = 64_000_000  # 64 MB a request
    max_bytes_together: int = 256_000_000  # of all requests under way, whose answers take as much again
    max_images: int = 64  # a request
    max_waiting: int = 256  # pictures, of all requests
    timeout_s: float = 30.0  # for a request to arrive
    rate: float = 1000.0  # requests a second of one address
    data: str | Path | None = None  # class folders that Studio shows and changes; None: default_data()
    allow: tuple[str, ...] = ()  # further folders that may be sorted there


@dataclass(frozen=True)
class ExplainOptions:
    model_dir: str | Path | None = None
    label: str | None = None  # what to look for; None: what each picture is taken for


@dataclass(frozen=True)
class SampleOptions:
    per_class: int = 60  # pictures
    size: int = 256  # px, square
    seed: int = 0


@dataclass(frozen=True)
class CleanOptions:
    only: tuple[str, ...] = ()  # classes; none: all
    checks: tuple[str, ...] = ()  # keys of retrain.checks.CHECKS; none: all, and only the sure ones are applied
    apply: bool = False  # move to quarantine
    html: str | Path | None = None  # a page with the suspects


@dataclass(frozen=True)
class FetchOptions:
    """How long, how much and how often to ask a host."""

    connect_s: float = 10.0
    read_s: float = 15.0  # between two bytes
    total_s: float = 60.0
    max_bytes: int = 30_000_000  # 30 MB an answer
    tries: int = 4
    pause_s: float = 2.0  # after the first failure; doubled at each
    max_wait_s: float = 90.0  # for a host's turn; what asks for more is given up for now
    rates: tuple[tuple[int, float], ...] = (
        (120, 60.0),
    )  # requests in so many seconds, to a host with no rule of its own


@dataclass(frozen=True)
class CrawlOptions:
    """limit and max_per_source: pictures a class, those that are there already among them."""

    sources: tuple[str, ...] = ("openverse", "wikimedia")  # keys of retrain.sources.SOURCES
    licence: str = "safe"  # a key of retrain.sources.licences.WANTED
    limit: int = 100
    max_per_source: int | None = None
    min_size: tuple[int, int] = (200, 200)  # px, width and height


@dataclass(frozen=True)
class OddOptions(CrawlOptions):
    """From a label that the model does not know, pictures are crawled."""

    model_dir: str | Path | None = None
    label: str | None = None  # what the others are; None: they are compared with one another
    data: str | Path | None = None  # folder of the model's classes, where the new one goes; None: default_data()
    limit: int = 40


@dataclass(frozen=True)
class LearnOptions(CrawlOptions, TrustOptions):
    model_dir: str | Path | None = None  # None: default_model_dir(), or beside it where that holds other classes
    data: str | Path | None = None  # folder of the crawled pictures; None: default_data()
    out: str | Path = "results"
    quality: str = TrainOptions.quality
    balance: str = TrainOptions.balance
    limit: int = 200
    threshold: float = 0.99


@dataclass(frozen=True)
class RetrainOptions:
    """The flags of the original retrain.py with its defaults, places included."""

    image_dir: str = ""
    output_graph: str = "/tmp/output_graph.pb"  # noqa: S108
    intermediate_output_graphs_dir: str = "/tmp/intermediate_graph/"  # noqa: S108
    intermediate_store_frequency: int = 0  # steps; 0: never
    output_labels: str = "/tmp/output_labels.txt"  # noqa: S108
    summaries_dir: str = "/tmp/retrain_logs"  # noqa: S108
    how_many_training_steps: int = 4000
    learning_rate: float = 0.01
    testing_percentage: int = 10
    validation_percentage: int = 10
    eval_step_interval: int = 10  # steps
    train_batch_size: int = 100  # pictures; below 0, here and in the next two: all
    test_batch_size: int = -1
    validation_batch_size: int = 100
    print_misclassified_test_images: bool = False
    bottleneck_dir: str = "/tmp/bottleneck"  # noqa: S108
    final_tensor_name: str = "final_result"
    flip_left_right: bool = False
    random_crop: int = 0  # percent, here and in the next two
    random_scale: int = 0
    random_brightness: int = 0
    tfhub_module: str = "https://tfhub.dev/google/imagenet/inception_v3/feature_vector/3"
    saved_model_dir: str = ""
    logging_verbosity: str = "INFO"
    checkpoint_path: str = "/tmp/_retrain_checkpoint"  # noqa: S108
    model_dir: str = ""  # of the copies of 2016
    architecture: str = ""  # of the copies of 2017
