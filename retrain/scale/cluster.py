"""Embed on a Ray cluster: Ray Data streams names of files through tasks that decode and actors that hold the networks.

Rows come in the order of the names.  What a lost machine had under way is done again by others, so that each file is
one row, once.  Where tasks and actors both need a processor alone, Ray Data joins the two to one step.

Ray tries a block again for ever.  So what is begun is counted: a file that ends its worker twice is a row with that
error, and a block that goes on ending workers ends the run.
"""

import logging
import os
import signal
import threading
from collections import Counter
from contextlib import contextmanager
from typing import Any

import numpy as np

import retrain
from retrain.backbones import Backbone
from retrain.backbones.gpu import ENOUGH, computes_on_gpu, open_embedder
from retrain.backbones.runner import no_chatter
from retrain.errors import RetrainError
from retrain.images import DECODER_VERSION, ImageError, to_input
from retrain.parallel import chunks, ordered_map
from retrain.scale.local import Row, look
from retrain.scale.places import is_remote

BLOCK = 128  # files that travel together; an actor is done with them within a second
MAX_DEATHS = 2  # of workers, at one file
MAX_TRIES = 20  # of a block, for whatever reason
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # less than a minute of waiting for a cluster that is gone, not twenty
}


def open_cluster(address=None):
    """Function (names, backbones, reader) → rows in order.

    address: HOST:PORT of a cluster, or auto for the one that this machine belongs to; None starts one of this machine
    alone, which ends with this process.  Raises RetrainError.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError:
        hint = "pip install 'retrain[scale]'; the container images do not hold it."
        raise RetrainError("this needs Ray, which is not installed.", hint) from None
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails, we tell
    if not ray.is_initialized():
        try:
            with no_chatter(), _own_ending():
                ray.init(
                    address or "local", include_dashboard=None if address else False, log_to_driver=False,
                    logging_level=logging.ERROR,
                )  # fmt: skip
        except (ConnectionError, ValueError, RuntimeError) as error:
            hint = "`ray start --head` begins one; run this on a machine that belongs to it."
            raise RetrainError(f"no Ray cluster answers at {address}: {error}.", hint) from error
    return _embed


@contextmanager
def _own_ending():
    """What this program does when it is asked to end stays: Ray would have it exit by another code."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _embed(names, backbones, reader):
    """Yield a Row a file, in order."""
    import ray.data

    tables = _tables(names)
    if not tables:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = context.raise_original_map_exception = True
    with _plain_errors():
        files = ray.data.from_arrow(tables)
        prepare: Any = _prepare  # Ray's types know no further arguments
        ready = files.map_batches(
            prepare, batch_size=None, batch_format="numpy", num_cpus=1,
            fn_kwargs={
                "specs": [backbone.spec for backbone in backbones], "reader": reader, "versions": _versions(),
                "begun": _count(),
            },
        )  # fmt: skip
        embedded = ready.map_batches(
            _Networks, fn_constructor_args=([(each.spec, each.content) for each in backbones],), batch_size=BLOCK,
            batch_format="numpy", compute=ray.data.ActorPoolStrategy(min_size=1, max_size=None),
            **_device(backbones),
        )  # fmt: skip
        for batch in embedded.iter_batches(batch_size=None, batch_format="numpy"):
            for row in _rows(batch, len(backbones)):
                _require_seen(row, reader)
                yield row


def _tables(names):
    import pyarrow

    # As bytes: a name need not be UTF-8.
    return [pyarrow.table({"name": [os.fsencode(name) for name in block]}) for block in chunks(names, BLOCK)]


def _device(backbones):
    """What an actor asks the cluster for: a GPU where there is one that the networks can use, else a processor."""
    import ray

    on_gpu = all(computes_on_gpu(backbone.spec) for backbone in backbones)
    return {"num_gpus": 1} if on_gpu and ray.cluster_resources().get("GPU") else {"num_cpus": 1}


def _versions():
    return retrain.__version__, DECODER_VERSION


class _Begun:
    """Counts how often each thing was begun and not ended: an actor, which outlives those that work."""

    def __init__(self):
        self.counts: Counter[Any] = Counter()

    def begin(self, what):
        """How often that was begun already."""
        self.counts[what] += 1
        return self.counts[what] - 1

    def end(self, what):
        del self.counts[what]


def _count():
    """A _Begun on the cluster."""
    import ray

    return ray.remote(_Begun).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()


def _prepare(batch, specs, reader, versions, begun):
    """From names to the inputs of the networks: runs on the cluster."""
    if _versions() != versions:
        raise RetrainError(
            f"a machine of the cluster has retrain {retrain.__version__}, this one {versions[0]}.",
            "Install the same on all.",
        )
    names = [os.fsdecode(name) for name in batch["name"]]
    tries = _call(begun.begin, (names[0], names[-1]))
    if tries == MAX_TRIES:
        raise RetrainError(
            f"no worker of the cluster lives through the files from {names[0]} to {names[-1]}.",
            "Give the workers more memory, or try these files without Ray.",
        )
    # After a death one by one, so that it is seen which it was.
    looked = (
        (_look_warily(name, specs, reader, begun) for name in names)
        if tries
        else ordered_map(lambda name: _look(name, specs, reader), names, reader.at_once)
    )
    rows, inputs = zip(*looked, strict=True)
    errors = [(row.error.reason, row.error.detail) if row.error else ("", "") for row in rows]
    return {
        "name": batch["name"],
        "digest": _bytes(row.digest for row in rows),
        "size": np.array([row.size for row in rows]),
        "reason": np.array([reason for reason, _ in errors]),
        "detail": np.array([detail for _, detail in errors]),
        **{f"input{number}": np.stack(each) for number, each in enumerate(zip(*inputs, strict=True))},
    }


def _look_warily(name, specs, reader, begun):
    if _call(begun.begin, name) >= MAX_DEATHS:
        return _inputs(Row(name, error=ImageError("corrupt", "it ended each process that decoded it")), None, specs)
    looked = _look(name, specs, reader)
    _call(begun.end, name)
    return looked


def _call(method, *arguments):
    import ray

    return ray.get(method.remote(*arguments))


def _look(name, specs, reader):
    row, image = look(name, reader)
    return _inputs(row, image, specs)


def _inputs(row, image, specs):
    if image is None:
        return row, [np.zeros((spec.image_size, spec.image_size, 3), np.uint8) for spec in specs]
    return row, [to_input(image, spec.image_size, spec.crop) for spec in specs]


def _bytes(values):
    """Array of bytes as they are: NumPy's own ends them at their last zeros."""
    return np.fromiter(values, object)


class _Networks:
    """The networks in an actor, which a lost machine's successor makes anew."""

    def __init__(self, networks):
        """networks: (BackboneSpec, bytes of its file) each."""
        self.embed = [_open(Backbone(*network)) for network in networks]

    def __call__(self, batch):
        """From inputs to embeddings, the columns `part0`, …"""
        for number, embed in enumerate(self.embed):
            batch[f"part{number}"] = embed(batch.pop(f"input{number}"))
        return batch


def _open(backbone):
    return open_embedder(backbone, ENOUGH) or backbone.embed


def _rows(batch, parts):
    columns = [batch[name] for name in ("name", "digest", "size", "reason", "detail")]
    for number, (name, digest, size, reason, detail) in enumerate(zip(*columns, strict=True)):
        row = Row(os.fsdecode(name), digest, int(size))
        if reason:
            row.error = ImageError(str(reason), str(detail))
        else:
            row.parts = [batch[f"part{part}"][number] for part in range(parts)]
        yield row


def _require_seen(row, reader):
    """Raise RetrainError where a machine of the cluster cannot read a file that this one can: the row would stay."""
    if row.digest or (row.error and row.error.reason != "unreadable") or is_remote(row.name):
        return
    try:
        reader.read(row.name)
    except ImageError:
        return
    raise RetrainError(
        f"a machine of the cluster cannot read {row.name}: {row.error}.",
        "Mount its folder at the same path on all machines, and run it again: it goes on where it was.",
    )


@contextmanager
def _plain_errors():
    """Ray's errors as ours."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, RetrainError):
                raise cause from error
            if isinstance(cause, ModuleNotFoundError):
                hint = "Install retrain there as it is here: pip install 'retrain[scale]'."
                raise RetrainError(f"a machine of the cluster lacks {cause.name}.", hint) from error
        # Ray marks its own faults by one more error, which says nothing.
        told = [cause for cause in causes if str(cause).strip()]
        problem = f"the Ray cluster failed: {_first_line((told or causes)[-1])}."
        raise RetrainError(problem, "--debug shows all it said.") from error


def _causes(error):
    """An error and what led to it: Ray tells that in two ways."""
    while error:
        yield error
        error = getattr(error, "cause", None) or error.__cause__


def _first_line(error):
    # What comes behind it is Ray's advice to programmers.
    line, *_ = str(error).strip().partition("\n")
    return f"{type(error).__name__}: {line}".rstrip(".: ")
