"""Small graphs and labels as the original programs wrote them, by TensorFlow 1's own ways, and hostile ones."""

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1

LABELS = ["dark", "light", "neither"]
SIDE = 32  # px


def inception(folder, final_tensor_name="final_result", side=SIDE, spoil=None):
    """A frozen graph shaped as Inception's of 2016: JPEG bytes at DecodeJpeg/contents:0, scaled pixels at Mul:0.

    spoil: function from the pixels uint8 (h, w, 3) to these again, called while the graph is made.
    """
    with tf.Graph().as_default() as graph:
        contents = v1.placeholder(tf.string, name="DecodeJpeg/contents")
        pixels = tf.io.decode_jpeg(contents, channels=3, name="DecodeJpeg")
        floats = tf.cast((spoil or tf.identity)(pixels), tf.float32, name="Cast")
        scaled = v1.image.resize_bilinear(tf.expand_dims(floats, 0, name="ExpandDims"), (side, side))
        entry = tf.multiply(scaled - 128.0, 1 / 128, name="Mul")
        classify(entry, final_tensor_name)
    return save(graph, folder)


def mobilenet(folder, entry="input", side=SIDE):
    """A frozen graph shaped as a MobileNet of the codelab: pixels at input:0."""
    with tf.Graph().as_default() as graph:
        classify(v1.placeholder(tf.float32, (None, side, side, 3), name=entry), "final_result")
    return save(graph, folder)


def classify(entry, name):
    """Convolution, batch normalization of 2015, pooling, head; told by brightness.  entry: float32 (1, h, w, 3)."""
    generator = np.random.default_rng(0)
    weights = tf.constant(generator.normal(0, 0.3, (3, 3, 3, 4)), tf.float32, name="conv/weights")
    maps = tf.nn.relu6(tf.nn.bias_add(tf.nn.conv2d(entry, weights, 2, "SAME"), tf.zeros(4)))
    maps = tf.nn.max_pool2d(maps, 2, 2, "VALID")
    brightness = tf.reduce_mean(entry, (1, 2, 3))[:, None]
    bottleneck = tf.concat([tf.reduce_mean(maps, (1, 2)), brightness], 1, name="pool_3")
    head = np.vstack([generator.normal(0, 0.1, (4, 3)), [[-6, 6, 0]]]).astype(np.float32)
    tf.nn.softmax(tf.matmul(bottleneck, tf.constant(head)) + tf.constant([0.0, 0, -1]), name=name)


def save(graph, folder):
    """Path of `retrained_graph.pb` in a folder; `retrained_labels.txt` lies beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "retrained_graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    (folder / "retrained_labels.txt").write_text("\n".join(LABELS) + "\n")
    return folder / "retrained_graph.pb"


def read_file(pixels):
    return decoded(tf.io.read_file("/etc/passwd"), pixels)


def write_file(pixels):
    with tf.control_dependencies([tf.io.write_file("written.txt", "by a graph")]):
        return tf.identity(pixels)


def py_func(pixels):
    return tf.reshape(v1.py_func(lambda values: values, [pixels], tf.uint8), tf.shape(pixels))


def while_loop(pixels):
    v1.disable_control_flow_v2()
    try:
        count = v1.while_loop(lambda number: number != -1, lambda number: (number + 1) % 1000, [0])
    finally:
        v1.enable_control_flow_v2()
    return pixels + tf.cast(count, tf.uint8)


def in_itself(pixels):
    """A function that calls itself, as none can be written, but a file can have one."""

    @tf.function(input_signature=[tf.TensorSpec(None, tf.uint8)])
    def same(pixels):
        return tf.identity(pixels)

    return same(pixels)


def in_a_function(pixels):
    """The file is read in the body of a function, and one of an allowed operation's name at that."""
    return tf.function(read_file)(pixels)


def decoded(text, pixels):
    return pixels + tf.cast(tf.strings.length(text), tf.uint8)


HOSTILE = {
    "ReadFile": read_file,
    "WriteFile": write_file,
    "PyFunc": py_func,
    "LoopCond": while_loop,
    "ReadFile in a function": in_a_function,
}
