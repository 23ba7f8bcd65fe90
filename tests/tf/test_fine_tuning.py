import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from marks import NEEDS_TENSORFLOW

from retrain import RetrainError, TrainOptions, train, train_like
from retrain.backbones import APPLICATIONS, find_spec
from retrain.classifier import Classifier
from retrain.head import fit_head, normalize
from retrain.metrics import log_loss
from retrain.model import load_model
from retrain.options import SampleOptions
from retrain.recipes import fine_tuning
from retrain.recipes.sampling import draw_sample

pytestmark = NEEDS_TENSORFLOW
OPTIONS = TrainOptions(fine_tune=True, report=False)


@pytest.fixture
def always_kept(monkeypatch):
    monkeypatch.setattr(fine_tuning, "_helps", lambda gain: True)
    monkeypatch.setattr("retrain.tf.fine_tuning.EPOCHS", 4)


@pytest.fixture(scope="module")
def tuner():
    from retrain.tf import open_tuner

    return open_tuner(find_spec("efficientnet-lite0-float32"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Two classes of 60 pictures."""
    folder = tmp_path_factory.mktemp("drawn") / "drawn"
    draw_sample(folder, SampleOptions(per_class=60, size=96, seed=3))
    for name in ("boat", "fish", "sun"):
        shutil.rmtree(folder / name)
    return folder


@pytest.fixture(scope="module")
def learned(drawn, tmp_path_factory):
    """What a training returned that kept its network, its folder, and what `_side_by_side` was given and made."""
    folder, found, side_by_side = tmp_path_factory.mktemp("learned"), [], fine_tuning._side_by_side

    def watched(*given):
        found.append((given, side_by_side(*given)))
        return found[0][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning, "_helps", lambda gain: True)
        patch.setattr("retrain.tf.fine_tuning.EPOCHS", 4)
        patch.setattr(fine_tuning, "_side_by_side", watched)
        result = train(drawn, replace(OPTIONS, model_dir=folder / "model", log_dir=folder / "logs"))
    return result, folder, found[0]


def test_kept_network_joins_the_frozen_one(drawn, learned):
    result, folder, _ = learned
    tuned = result["fine_tuning"]
    assert tuned["kept"]
    assert tuned["pictures"] + tuned["validation_images"] + result["test_images"] == result["images"]
    assert [row["epoch"] for row in tuned["history"]] == list(range(1, len(tuned["history"]) + 1))
    assert tuned["history"][-1]["loss"] < tuned["history"][0]["loss"]
    assert (folder / "model" / "weights1.npz").exists()
    model = load_model(folder / "model")
    assert [backbone.spec.name for backbone in model.backbones] == [
        "efficientnet-lite0",
        "efficientnet-lite0-fine-tuned",
    ]
    assert not result["needs_tensorflow"]
    assert not (folder / "fine-tuning").exists()
    guesses = list(Classifier(model).guess([drawn]))
    assert np.mean([Path(guess.path).parent.name == guess.label for guess in guesses]) >= 0.95
    assert model.info["fine_tuning"] == json.loads(json.dumps(tuned))


def test_it_is_repeated_with_the_rest_of_a_training(drawn, learned, tmp_path, always_kept):
    first = learned[0]
    again = train_like(first["model_dir"], drawn, model_dir=tmp_path / "again" / "model")
    assert again["fine_tuning"]["kept"]
    assert {row["what"] for row in again["differences"]} <= {"backbone", "head.npz"}  # of cores that share a sum
    for one, other in zip(first["fine_tuning"]["history"], again["fine_tuning"]["history"], strict=True):
        assert one == pytest.approx(other, rel=0.05, abs=0.01)


def test_model_says_what_its_parts_say_together(learned):
    (fitted, prepared, _, validation, backbone, own, _), tuned = learned[2]
    from retrain.bottlenecks import Store, embed_files

    with Store(None) as store:
        paths = [prepared.dataset.paths[row] for row in fitted.tested]
        alone = normalize(embed_files(paths, [backbone], store).embeddings)
    both = tuned.model.head.logits(tuned.kept_back)
    parts = np.stack([fitted.model.head.logits(fitted.kept_back), own.logits(alone)])
    # One pair of factors makes the two heads' sums, class by class.
    factors = np.linalg.lstsq(parts.reshape(2, -1).T, both.ravel(), rcond=None)[0]
    np.testing.assert_allclose(np.tensordot(factors, parts, 1), both, atol=1e-3)
    assert min(factors) >= -1e-6
    np.testing.assert_allclose(np.linalg.norm(tuned.kept_back, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(
        tuned.model.detector.scores(tuned.kept_back), fitted.model.detector.scores(fitted.kept_back), rtol=1e-4
    )
    assert len(tuned.logits) == len(validation) == len(tuned.model.limits.confidences)


def test_discarded_where_it_is_no_better(drawn, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fine_tuning, "_helps", lambda gain: False)
    monkeypatch.setattr("retrain.tf.fine_tuning.EPOCHS", 2)
    result = train(drawn, OPTIONS)
    plain = train(drawn, TrainOptions(report=False, model_dir=tmp_path / "plain"))
    assert result["fine_tuning"]["why"] == "it is no better on the validation pictures than without"
    assert "Fine-tuning is discarded" in caplog.text
    assert result["accuracy"] == plain["accuracy"]
    same = [(tmp_path / name / "head.npz").read_bytes() for name in ("plain", "tf_files/model")]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("gain", "helps"), [([0.1, 0.2, 0.1, 0.2], True), ([0.0, 0.0], False), ([-0.1, -0.2], False), ([1.0, -1.1], False)]
)
def test_helps_only_where_the_loss_falls(gain, helps):
    assert fine_tuning._helps(np.array(gain)) is helps


def test_few_pictures_are_not_tuned_with(data):
    result = train(data, OPTIONS)
    assert not result["fine_tuning"]["kept"]
    assert "pictures cannot tell whether it helps" in result["fine_tuning"]["why"]


def test_time_ends_it(drawn, monkeypatch):
    monkeypatch.setattr(fine_tuning, "AT_ONCE", 8)
    result = train(drawn, TrainOptions(fine_tune=True, report=False, max_minutes=0.001))
    assert not result["fine_tuning"]["kept"]
    assert result["fine_tuning"]["why"] == "0.001 minutes are too few"


def test_network_of_a_file_is_refused(sample, tmp_path):
    from networks import small_keras

    small_keras().save(tmp_path / "own.keras")
    with pytest.raises(RetrainError, match="cannot be fine-tuned"):
        train(sample, TrainOptions(fine_tune=True, backbone=str(tmp_path / "own.keras"), report=False))


def test_event_files_are_written_on_request(learned):
    folder = learned[1]
    assert {path.parent.name for path in (folder / "logs").rglob("events.*")} == {"train", "validation"}
    assert "log_dir" not in load_model(folder / "model").info["options"]


def test_interrupt_before_the_first_epoch_keeps_the_frozen_model(drawn, tmp_path, monkeypatch, caplog):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fine_tuning, "_look", interrupted)
    result = train(drawn, OPTIONS)
    assert result["fine_tuning"]["why"] == "it was stopped"
    assert load_model(tmp_path / "tf_files" / "model").backbones[0].spec.name == "efficientnet-lite0"


def test_full_disk_leaves_the_frozen_model(drawn, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fine_tuning, "_views", full)
    result = train(drawn, OPTIONS)
    assert "No space left on device" in result["fine_tuning"]["why"]
    assert load_model(tmp_path / "tf_files" / "model").classes == ["house", "tree"]


def test_what_stopped_trainings_left_is_removed_unless_one_is_at_work(tmp_path):
    for name in ("mine", "left", "working"):
        (tmp_path / name).mkdir()
        (tmp_path / name / fine_tuning.LOCK).touch()
    (tmp_path / "thesis").mkdir()
    with fine_tuning.locked(tmp_path / "working" / fine_tuning.LOCK, "train", tmp_path):
        fine_tuning._remove_others(tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "thesis", "working"]


SCRIPT = """
import logging, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
logging.basicConfig(level=logging.INFO, format="%(message)s")
from retrain import TrainOptions, train
from retrain.recipes import fine_tuning
import retrain.tf.fine_tuning
fine_tuning._helps = lambda gain: True
retrain.tf.fine_tuning.EPOCHS = 4
result = train(sys.argv[1], TrainOptions(fine_tune=True, report=False))
print(len(result["fine_tuning"]["history"]), result["fine_tuning"]["loss"], flush=True)
"""


def start(drawn, folder):
    environment = os.environ | {"TF_FILES": str(folder)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(drawn)], env=environment, **pipes)


def wait_for(process, text):
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"it ended without {text}")


def test_killed_training_goes_on_and_ends_alike(drawn, tmp_path):
    """Killed while it looks, between two epochs, and within one: it comes to the end it would have come to."""
    out, _ = start(drawn, tmp_path / "whole").communicate()
    loss = out.split()[1]
    moments = ("", 2.0), ("Epoch 1 of", 0.0), ("Epoch 3 of", 0.5)
    for text, wait in moments:
        process = start(drawn, tmp_path / "killed")
        if text:
            wait_for(process, text)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(drawn, tmp_path / "killed")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "Epoch 1 of" not in err
    assert abs(float(out.split()[1]) - float(loss)) < 0.1


def test_interrupt_keeps_the_best_so_far_and_the_next_run_goes_on(drawn, tmp_path):
    process = start(drawn, tmp_path / "own")
    wait_for(process, "Epoch 1 of")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "the best so far is kept" in err
    assert 1 <= int(out.split()[0]) < 4
    out, err = start(drawn, tmp_path / "own").communicate()
    assert "Epoch 1 of" not in err
    assert int(out.split()[0]) > 1


@pytest.mark.parametrize("name", ["MobileNetV3Large", "InceptionV3", "ResNet50", "EfficientNetV2B0", "ConvNeXtTiny"])
def test_halves_make_the_whole(name):
    from retrain.tf import applications
    from retrain.tf.fine_tuning import _halves

    model = applications.build(APPLICATIONS[f"keras:{name}"], weights=None)
    lower, upper = _halves(model)
    pictures = np.random.default_rng(0).uniform(-1, 1, (2, *model.input.shape[1:])).astype(np.float32)
    whole = model(pictures, training=False)
    np.testing.assert_allclose(upper(lower(pictures, training=False), training=False), whole, atol=1e-4)
    assert 0.1 < len(upper.layers) / len(model.layers) < 0.9


def test_statistics_of_normalization_stay(tuner, tmp_path):
    import keras

    def statistics():
        norms = [layer for layer in tuner.upper.layers if isinstance(layer, keras.layers.BatchNormalization)]
        return [norm.moving_mean.numpy() for norm in norms]

    before = statistics()
    random = np.random.default_rng(0)
    views = random.uniform(0, 1, (64, 2, *tuner.shape)).astype(np.float16)
    labels = np.arange(64) % 2
    views[labels == 1] *= 2
    embeddings = normalize([tuner.embed(np.ascontiguousarray(views[:, 0]))])
    head = fit_head(embeddings, labels, 2, 3.0)
    weights = np.ones(64, np.float32)
    settings = {"seed": 0, "deadline": time.monotonic() + 600, "log_dir": None}
    unseen = np.ascontiguousarray(views[:16, 0]), labels[:16], weights[:16]
    after, history, ended = tuner.fit((views, labels, weights), unseen, head, tmp_path, settings)
    assert ended
    for one, other in zip(before, statistics(), strict=True):
        np.testing.assert_array_equal(one, other)
    tuned = normalize([tuner.embed(np.ascontiguousarray(views[:, 0]))])
    assert min(row["val_loss"] for row in history) == pytest.approx(
        log_loss(after.logits(tuned[:16]), labels[:16]), abs=1e-2
    )


@pytest.mark.parametrize("file", ["new-best.weights.h5", "latest.weights.h5"])
def test_interrupt_while_it_saves_loses_no_epoch(tuner, tmp_path, monkeypatch, file):
    import keras

    monkeypatch.setattr("retrain.tf.fine_tuning.EPOCHS", 3)
    saves, save_weights = [], keras.Model.save_weights

    def save(self, filepath, **options):
        saves.append(Path(filepath).name)
        if saves.count(file) == 2 and saves[-1] == file:
            Path(filepath).write_bytes(b"torn")
            signal.raise_signal(signal.SIGINT)
        save_weights(self, filepath, **options)

    views = np.random.default_rng(0).uniform(0, 1, (64, 1, *tuner.shape)).astype(np.float16)
    labels, weights = np.arange(64) % 2, np.ones(64, np.float32)
    views[labels == 1] *= 2
    head = fit_head(normalize([tuner.embed(views[:, 0])]), labels, 2, 1e-3)  # which has much to learn
    settings = {"seed": 0, "deadline": time.monotonic() + 600, "log_dir": None}
    data = (views, labels, weights), (views[:, 0], labels, weights), head, tmp_path, settings
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with monkeypatch.context() as patch:
            patch.setattr(keras.Model, "save_weights", save)
            _, history, ended = tuner.fit(*data)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert saves[-1] == file
    assert [row["epoch"] for row in history] == ([1] if file.startswith("new") else [1, 2])
    assert not ended
    _, again, ended = tuner.fit(*data)
    assert again[: len(history)] == history
    assert len(again) > len(history)
    assert ended


def test_half_written_state_is_begun_anew(tuner, tmp_path):
    from retrain.tf.fine_tuning import BACKUP, BEST, HISTORY

    (tmp_path / BACKUP).mkdir()
    (tmp_path / BACKUP / "latest.weights.h5").write_bytes(b"torn")
    (tmp_path / BACKUP / "training_metadata.json").write_text('{"epo')
    (tmp_path / BEST).write_bytes(b"torn")
    (tmp_path / HISTORY).write_text("epoch,accuracy\n3")
    views = np.random.default_rng(0).uniform(0, 1, (8, 1, *tuner.shape)).astype(np.float16)
    labels, weights = np.arange(8) % 2, np.ones(8, np.float32)
    head = fit_head(normalize([tuner.embed(views[:, 0])]), labels, 2, 3.0)
    settings = {"seed": 0, "deadline": time.monotonic() + 600, "log_dir": None}
    _, history, _ = tuner.fit((views, labels, weights), (views[:, 0], labels, weights), head, tmp_path, settings)
    assert history[0]["epoch"] == 1


def test_without_tensorflow_it_is_said_before_any_work(sample, tmp_path, monkeypatch):
    monkeypatch.setattr("retrain.tf.importlib.util.find_spec", lambda name: None)
    with pytest.raises(RetrainError, match="needs TensorFlow") as caught:
        fine_tuning.tunable_spec("efficientnet-lite0+efficientnet-lite2")
    assert "make setup-full" in caught.value.hint
