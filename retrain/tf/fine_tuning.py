"""Fine-tuning: the upper half of a network learns on, from what its lower half, which stays as it is, tells it."""

import csv
import io
import logging
import math
import shutil
import signal
import threading
import time
from contextlib import suppress

import keras
import numpy as np
from keras import layers

from retrain.errors import RetrainError
from retrain.tf import devices
from retrain.tf.convert import build_keras, prepare
from retrain.tf.freezing import to_file

HALF = 0.4, 0.6  # of the operations: the network is cut in between, where the fewest numbers pass
EPOCHS = 8
BATCH = 32
LEARNING_RATE = 1e-4  # at twice this it forgets what it knew
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.05
DROPOUT = 0.2
CLIPPED = 5.0  # norm of all gradients
PATIENCE = 3  # epochs without a better validation loss
COLUMNS = {
    "loss": "log_loss", "accuracy": "accuracy", "val_loss": "val_log_loss", "val_accuracy": "val_accuracy",
}  # fmt: skip
ENDS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
HISTORY, BEST, BACKUP = "history.csv", "best.weights.h5", "backup"

log = logging.getLogger("retrain")


class Tuner:
    """A registered network that learns on.

    activations: float16 (..., *shape), what the lower half says of pictures.
    """

    def __init__(self, spec):
        self.spec, self.strategy = spec, devices.strategy()
        with self.strategy.scope():
            self.lower, self.upper = _halves(build_keras(spec))
        self.shape = tuple(self.lower.output.shape[1:])
        self._batch = BATCH

    def activate(self, pictures):
        """Activations of pictures uint8 (n, H, W, 3)."""
        images = np.asarray(prepare(self.spec, pictures.astype(np.float32)), np.float32)
        found, self._batch = devices.predict(self.lower, images, self._batch)
        return found.astype(np.float16)

    def embed(self, activations):
        """Embeddings float32 (n, D), as far as the network has learned."""
        found, self._batch = devices.predict(self.upper, activations, self._batch)
        return found.astype(np.float32)

    def fit(self, views, validation, head, folder, settings):
        """Learn on; ends as the epoch of the best validation loss left it.  Interrupted, it goes on from that folder.

        views: (activations (n, views, ...), labels (n,), weights (n,)) of what is learned.  validation: the same of
        what is not, (m, ...).  head: the Head of normalized embeddings to start from.  folder: for what is kept.
        settings: {"seed", "deadline": by time.monotonic, "log_dir": for TensorBoard or None}.
        Returns (Head, history: [{"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}], whether it came to its
        end).  Raises KeyboardInterrupt where there is no epoch to return to.
        """
        keras.utils.set_random_seed(settings["seed"])
        with self.strategy.scope():
            network = self.with_head(head)
        start = network.get_weights()

        def run(batch):
            network.set_weights(start)
            batches = _Views(views, batch, settings["seed"], len(head.intercept))
            self.compile(network, len(batches))
            return _run(network, batches, validation, folder, settings)

        try:
            (history, ended), self._batch = devices.fitting_batch(run, self._batch)
        except (OSError, ValueError):
            if not (folder / BACKUP).exists():
                raise
            _clear(folder)  # a kill has left half a file behind
            (history, ended), self._batch = devices.fitting_batch(run, self._batch)
        network.set_weights(start)
        if (folder / BEST).exists():
            network.load_weights(folder / BEST)
        kernel, bias = network.layers[-1].get_weights()
        return type(head)(kernel.T.copy(), bias), history, ended

    def to_file(self):
        """(content, suffix, weights) of the network as it is now; see `freezing`.

        weights: bytes of an `.npz` with those of `build_keras(spec)`, in Keras' order, for exports.
        """
        keras.config.set_dtype_policy("float32")
        network = build_keras(self.spec)
        lower, upper = _halves(network)  # they share its layers
        upper.set_weights(self.upper.get_weights())
        weights = io.BytesIO()
        np.savez(weights, *network.get_weights())
        made = to_file(lambda images: upper(lower(prepare(self.spec, images)), training=False), self.spec.image_size)
        return *made, weights.getvalue()

    def with_head(self, head):
        entry = keras.Input(self.shape, dtype="float16")
        embeddings = _Steady(self.upper)(layers.Identity(dtype="float32")(entry))
        embeddings = layers.Dropout(DROPOUT)(layers.UnitNormalization(dtype="float32")(embeddings))
        network = keras.Model(entry, layers.Dense(len(head.intercept), dtype="float32")(embeddings))
        network.layers[-1].set_weights([head.weights.T, head.intercept])
        return network

    def compile(self, network, steps):
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, steps * (EPOCHS - 1), warmup_target=LEARNING_RATE, warmup_steps=steps
        )
        with self.strategy.scope():
            network.compile(
                keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY, global_clipnorm=CLIPPED),
                keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=LABEL_SMOOTHING),
                weighted_metrics=[
                    keras.metrics.CategoricalAccuracy("accuracy"),
                    keras.metrics.CategoricalCrossentropy("log_loss", from_logits=True),  # labels not smoothed
                ],
                jit_compile=False,  # compiling takes a CPU longer than it saves
            )


def _run(network, views, validation, folder, settings):
    """The history, and whether it came to its end."""
    activations, labels, weights = validation
    before = _history(folder / HISTORY) if (folder / BEST).exists() else []
    callbacks = [
        _Best(folder / BEST, min((row["val_loss"] for row in before), default=math.inf)),
        keras.callbacks.CSVLogger(folder / HISTORY, append=True),
        _Backup(folder / BACKUP, double_checkpoint=True, delete_checkpoint=False),
        keras.callbacks.EarlyStopping("val_log_loss", mode="min", patience=PATIENCE),
        _Teller(settings["deadline"]),
    ]
    if settings["log_dir"]:
        callbacks.append(_tensorboard(settings["log_dir"]))
    try:
        network.fit(
            views, epochs=EPOCHS, callbacks=callbacks, verbose=0, validation_batch_size=views.batch,
            validation_data=tuple(
                devices.filled(rows, views.batch)  # with what weighs nothing
                for rows in (activations, keras.utils.to_categorical(labels, views.classes), weights)
            ),
        )  # fmt: skip
    except KeyboardInterrupt:
        history = _history(folder / HISTORY)
        if not history or not (folder / BEST).exists():
            raise
        log.warning("Stopped: the best so far is kept.")
        return history, False
    return _history(folder / HISTORY), time.monotonic() < settings["deadline"]


def _clear(folder):
    """Forget how far a training came."""
    for path in (folder / HISTORY, folder / BEST):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / BACKUP, ignore_errors=True)


class _Steady(layers.Layer):
    """A network that learns, but for the statistics of its normalization: these stay those of millions of pictures.

    Keras 3 overrides a training=False that a layer of a functional model is called with.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network

    def call(self, entries):
        return self.network(entries, training=False)


class _Views(keras.utils.PyDataset):
    """Batches of activations, of each picture one of its views, another one in the next epoch."""

    def __init__(self, rows, batch, seed, classes):
        super().__init__()
        self.activations, labels, self.weights = rows
        self.batch, self.classes = batch, classes
        self.targets = keras.utils.to_categorical(labels, classes)
        self._random = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return math.ceil(len(self.targets) / self.batch)

    def __getitem__(self, number):
        rows = self._order[number * self.batch : (number + 1) * self.batch]
        return self.activations[rows, self._view[rows]], self.targets[rows], self.weights[rows]

    def on_epoch_end(self):
        # All batches are full, that each of several GPUs has the same share: the last one with pictures of the first.
        self._order = np.resize(self._random.permutation(len(self.targets)), len(self) * self.batch)
        self._view = self._random.integers(self.activations.shape[1], size=len(self.targets))


class _Best(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the least validation loss, in a file that is whole at any time."""

    def __init__(self, path, least):
        super().__init__()
        self.path, self.least = path, least

    def on_epoch_end(self, epoch, logs):
        if logs["val_log_loss"] < self.least:
            part = self.path.with_name(f"new-{self.path.name}")
            self.model.save_weights(part, overwrite=True)
            part.replace(self.path)
            self.least = logs["val_log_loss"]


class _Backup(keras.callbacks.BackupAndRestore):
    """Lets no signal interrupt it half-way: Keras would not know what it left for a torn file."""

    def on_epoch_end(self, epoch, logs=None):
        came: list[int] = []
        is_main = threading.current_thread() is threading.main_thread()
        asked = [number for number in ENDS if is_main and callable(signal.getsignal(number))]
        before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in asked}
        try:
            super().on_epoch_end(epoch, logs)
        finally:
            for ending, handler in before.items():
                signal.signal(ending, handler)
            for number in came:
                signal.raise_signal(number)


class _Teller(keras.callbacks.Callback):
    """Says how far it came, and ends it in time."""

    def __init__(self, deadline):
        super().__init__()
        self.deadline = deadline

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() > self.deadline:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs):
        learned, unseen = ((logs[f"{part}log_loss"], 100 * logs[f"{part}accuracy"]) for part in ("", "val_"))
        log.info(
            "Epoch %d of %d: loss %.3f, accuracy %.1f %%; validation: loss %.3f, accuracy %.1f %% (%.0f s)",
            epoch + 1, EPOCHS, *learned, *unseen, time.monotonic() - self._start,
        )  # fmt: skip


def _tensorboard(folder):
    try:
        import tensorboard  # noqa: F401 - what tf.summary writes with
    except ImportError as error:
        raise RetrainError(
            "this needs TensorBoard, which is not installed.", "pip install tensorboard, or leave --log-dir out."
        ) from error
    return keras.callbacks.TensorBoard(folder, write_graph=False)


def _history(path):
    """The whole rows of Keras' log, each epoch as it went last."""
    rows: dict = {}
    with suppress(FileNotFoundError), open(path, newline="") as file:
        for row in csv.DictReader(file):
            with suppress(ValueError, TypeError, KeyError):
                numbers = {name: float(row[column]) for name, column in COLUMNS.items()}
                rows[int(row["epoch"])] = {"epoch": int(row["epoch"]) + 1} | numbers
    return [rows[epoch] for epoch in sorted(rows)]


def _halves(model):
    """The network cut in two: images → activations, and activations → embeddings."""
    embeddings = model.output["embeddings"] if isinstance(model.output, dict) else model.output
    model = keras.Model(model.input, embeddings)
    cut = min(_cuts(model), key=lambda output: math.prod(output.shape[1:]))
    return keras.Model(model.input, cut), keras.Model(cut, embeddings)


def _cuts(model):
    """Outputs in the middle of a network that all of it passes through, the highest first."""
    operations = model.operations
    place = {id(operation): number for number, operation in enumerate(operations)}
    reach = list(range(len(operations)))  # how far up each one's output is used
    for number, operation in enumerate(operations):
        for node in operation._inbound_nodes:
            for entry in node.input_tensors:
                below = place.get(id(entry._keras_history.operation))
                if below is not None:
                    reach[below] = max(reach[below], number)
    low, high = (int(share * len(operations)) for share in HALF)
    return [
        operations[number].output
        for number in range(high, low, -1)
        if max(reach[:number]) <= number and len(operations[number].output.shape) > 1
    ]
