"""pb: the frozen graph `retrained_graph.pb`, which programs made for TensorFlow 1 load by the names they know."""

import tempfile
from pathlib import Path

from retrain.errors import RetrainError
from retrain.exports.describing import as_text, describe


def write_graph(model, path, final_tensor_name="final_result"):
    """Write the frozen graph of a Model in one step, over what is there; see `retrain.tf.retrained_graph`.

    Networks are computed in float32, whatever the model itself has.  Raises RetrainError.
    """
    from retrain.tf import build_retrained_graph

    content, path = build_retrained_graph(model, final_tensor_name, as_text(describe(model))), Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
            new = Path(scratch) / "new"
            new.write_bytes(content)
            new.replace(path)
    except OSError as error:
        raise RetrainError(f"cannot write {path}: {error.strerror}.", "Name another place.") from error
