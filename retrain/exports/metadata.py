"""LiteRT metadata, by which Android Studio and MediaPipe know what a file takes and gives.

No package that writes them is light enough to ask for, and there is little of them.  The numbers are the fields of
TensorFlow's `metadata_schema.fbs`, in their order; a union takes two, of which the first tells its kind.
"""

import io
import zipfile

import flatbuffers
import numpy as np

LABELS = "labels.txt"
FEATURE, IMAGE, NORMALIZATION, RGB, AXIS_LABELS = map(np.uint8, (1, 2, 1, 1, 2))
PARSER = "1.0.0"  # the oldest that reads this


def metadata(described):
    """Bytes of the metadata of a file made by `joining.join`.  described: see `retrain.exports.describing`."""
    side = np.uint32(described["image_size"])
    pixels = {
        0: "image", 1: f"{described['preprocessing']['crop']}, as RGB of 0-255",
        3: {0: IMAGE, 1: {0: RGB, 1: {0: side, 1: side}}},
        4: [{0: NORMALIZATION, 1: {0: [0.0], 1: [1.0]}}],
        5: {0: [255.0], 1: [0.0]},
    }  # fmt: skip
    probabilities = {
        0: "probability", 1: "How sure each label is.", 3: {0: FEATURE, 1: {}}, 5: {0: [1.0], 1: [0.0]},
        6: [{0: LABELS, 1: "A label a line.", 2: AXIS_LABELS}],
    }  # fmt: skip
    graph = {2: [pixels], 3: [probabilities]}
    whole = {0: "ImageClassifier", 1: "Tells what is on a picture.", 3: [graph], 4: described["made_by"], 7: PARSER}
    builder = flatbuffers.Builder()
    builder.Finish(_build(builder, whole), b"M001")
    return bytes(builder.Output())


def pack(content, labels):
    """A LiteRT file with a file of its labels behind it, as a zip archive has them."""
    stream = io.BytesIO(content)
    stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS), labels)
    return stream.getvalue()


def _build(builder, value):
    """Place of a string, of a vector of numbers or tables, or of a table {number of a field: value}."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, list) and isinstance(value[0], float):
        return builder.CreateNumpyVector(np.array(value, np.float32))
    if isinstance(value, list):
        places = [_build(builder, each) for each in value]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()
    # What a table names must stand before it.
    fields = {number: each if isinstance(each, np.integer) else _build(builder, each) for number, each in value.items()}
    builder.StartObject(max(fields, default=-1) + 1)
    for number, each in fields.items():
        if isinstance(each, np.uint8):
            builder.PrependUint8Slot(number, int(each), 0)
        elif isinstance(each, np.uint32):
            builder.PrependUint32Slot(number, int(each), 0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, each, 0)
    return builder.EndObject()
