"""Event files for TensorBoard, and nothing of anybody else's touched."""

from pathlib import Path

import tensorflow as tf

OURS = ".retrain"  # ends the names of our event files


class Summaries:
    """Writes scalars and histograms into a folder, in the place of what it wrote there before."""

    def __init__(self, folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path in Path(folder).glob(f"events.out.tfevents.*{OURS}"):
            path.unlink()
        self._writer = tf.summary.create_file_writer(str(folder), filename_suffix=OURS)

    def write(self, step, scalars, histograms=None):
        """scalars: {tag: number}.  histograms: {tag: array}."""
        with self._writer.as_default(step):
            for tag, value in scalars.items():
                tf.summary.scalar(tag, value)
            for tag, values in (histograms or {}).items():
                tf.summary.histogram(tag, values)

    def close(self):
        self._writer.close()


def write_checkpoint(path, arrays):
    """The files of a `tf.train.Saver` at that path.  arrays: {name of the variable: array}."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.Variable(array, name=name) for name, array in arrays.items()]
        session.run(tf.compat.v1.variables_initializer(variables))
        # Without the file `checkpoint` beside it, which others have, too.
        tf.compat.v1.train.Saver(variables).save(session, str(path), latest_filename="none", write_state=False)
