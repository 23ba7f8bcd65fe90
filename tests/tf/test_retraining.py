"""retrain.py: one test a flag, that it changes what it should; log lines and outputs as the original had them."""

import json
import re
import shutil
from importlib.util import find_spec as find_module

import numpy as np
import pytest
from marks import NEEDS_TENSORFLOW

from retrain import Classifier
from retrain.backbones.files import SHIPPED
from retrain.compat import main, retraining
from retrain.dataset import find_dataset, legacy_part
from retrain.model import load_model
from retrain.options import RetrainOptions

pytestmark = NEEDS_TENSORFLOW
if find_module("tensorflow"):
    import networks
    import tensorflow as tf

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+"
NUMBER = r"\d+\.\d"
LINES = {
    "train": rf"{TIME}: Step (\d+): Train accuracy = ({NUMBER})%",
    "cross entropy": rf"{TIME}: Step (\d+): Cross entropy = (\d+\.\d{{6}})",
    "validation": rf"{TIME}: Step (\d+): Validation accuracy = ({NUMBER})% \(N=(\d+)\)",
    "test": rf"Final test accuracy = ({NUMBER})% \(N=(\d+)\)",
    "misclassified": r"=== MISCLASSIFIED TEST IMAGES ===",
    "result": r"Save final result to : (\S+)",
    "intermediate": r"Save intermediate result to : (\S+)",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Folder of the network that is built and of the embeddings, for all tests."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(autouse=True)
def places(shared, sample, monkeypatch):
    """The split goes by the path as typed: a relative one is the same at every run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
    monkeypatch.chdir(sample.parent)


@pytest.fixture
def run(sample, shared, tmp_path, caplog):
    """run(flag=value, …): the code of retrain.py with few steps; True: a flag alone.  Its log is in caplog."""

    def run(**flags):
        caplog.clear()
        places = {
            "output_graph": tmp_path / "out" / "graph.pb",
            "output_labels": tmp_path / "out" / "labels.txt",
            "summaries_dir": tmp_path / "logs",
            "checkpoint_path": tmp_path / "checkpoint",
            "intermediate_output_graphs_dir": f"{tmp_path}/between/",
        }
        flags = {"image_dir": sample.name, "how_many_training_steps": 3} | places | flags
        flags.setdefault("bottleneck_dir", shared / "bottlenecks")
        return main(
            "retrain.py", [f"--{name}" if value is True else f"--{name}={value}" for name, value in flags.items()]
        )

    return run


@pytest.fixture
def no_graph(monkeypatch):
    """Writes no graph, which takes seconds."""
    monkeypatch.setattr(retraining, "write_graph", lambda *_: None)


@pytest.fixture
def head(tmp_path):
    """head(): weights of the model that was written last."""
    return lambda: load_model(tmp_path / "out" / "model").head.weights


def found(caplog, line):
    return [match.groups() for message in caplog.messages if (match := re.fullmatch(LINES[line], message))]


def test_every_line_is_as_it_was(run, caplog, tmp_path):
    code = run(
        how_many_training_steps=21, intermediate_store_frequency=20, print_misclassified_test_images=True,
        learning_rate=0.0001,
    )  # fmt: skip
    assert code == 0
    for line in LINES:
        assert found(caplog, line), line
    steps = [message for message in caplog.messages if "Step" in message]
    assert all(any(re.fullmatch(pattern, message) for pattern in LINES.values()) for message in steps)
    assert [int(step) for step, _ in found(caplog, "train")] == [0, 10, 20]
    wrong = caplog.messages[caplog.messages.index("=== MISCLASSIFIED TEST IMAGES ===") + 1 : -1]
    ((accuracy, count),) = found(caplog, "test")
    assert 100 * (1 - len(wrong) / int(count)) == pytest.approx(float(accuracy), abs=0.06)
    assert wrong
    assert all(re.fullmatch(r" *\S+/(\w+)/\1-\d+\.jpg  [a-z ]+", line) and len(line) > 72 for line in wrong)
    assert (tmp_path / "between" / "intermediate_20.pb").exists()


def test_graph_labels_and_model_tell_the_same(run, sample, tmp_path, capsys):
    assert run(how_many_training_steps=200, learning_rate=0.02) == 0
    labels = (tmp_path / "out" / "labels.txt").read_text()
    assert labels == "".join(f"{name}\n" for name in sorted(path.name for path in sample.iterdir()))
    paths = [sample / name / f"{name}-000.jpg" for name in ("fish", "sun", "tree")]
    light = list(Classifier.load(tmp_path / "out" / "model").guess(paths))
    for path, guess in zip(paths, light, strict=True):
        capsys.readouterr()
        arguments = ["--graph", tmp_path / "out" / "graph.pb", "--labels", tmp_path / "out" / "labels.txt"]
        assert main("label_image.py", [*map(str, arguments), "--image", str(path)]) == 0
        label, score = capsys.readouterr().out.splitlines()[0].rsplit(" ", 1)
        assert label == guess.label == path.parent.name
        assert float(score) == pytest.approx(guess.confidence, abs=0.05)

    (tmp_path / "few.txt").write_text("tree\n")
    graph = ["--graph", str(tmp_path / "out" / "graph.pb"), "--labels"]
    assert main("label_image.py", [*graph, str(tmp_path / "few.txt"), "--image", str(paths[0])]) == 1
    assert "there are 1 labels, but" in capsys.readouterr().err
    labels = str(tmp_path / "out" / "labels.txt")
    assert main("label_image_tojson.py", [str(sample / "tree"), str(tmp_path / "json"), *graph, labels]) == 0
    found = json.loads((tmp_path / "json" / "res.json").read_text())
    assert sum(max(scores, key=scores.get) == "tree" for scores in found.values()) >= 22


def test_the_same_pictures_give_the_same_layer(run, no_graph, head):
    run()
    first = head()
    run()
    np.testing.assert_array_equal(head(), first)


@pytest.mark.usefixtures("no_graph")
class TestFlag:
    def test_image_dir(self, run, tmp_path, capsys):
        assert run(image_dir="") == 1
        assert "Must set flag --image_dir." in capsys.readouterr().err
        assert run(image_dir=tmp_path / "nowhere") == 1
        assert f"Image directory '{tmp_path / 'nowhere'}' not found." in capsys.readouterr().err
        (tmp_path / "few").mkdir()
        assert run(image_dir=tmp_path / "few") == 1
        assert f"No valid folders of images found at {tmp_path / 'few'}" in capsys.readouterr().err

    def test_image_dir_with_one_class(self, run, data, capsys):
        shutil.rmtree(data / "fish")
        assert run(image_dir=data) == 1
        assert "multiple classes are needed for classification" in capsys.readouterr().err

    def test_output_labels(self, run, data, tmp_path):
        (data / "fish").rename(data / "Gold_Fish & Co")
        assert run(image_dir=data, output_labels=tmp_path / "names" / "labels.txt", testing_percentage=0) == 0
        assert (tmp_path / "names" / "labels.txt").read_text() == "gold fish co\ntree\n"

    def test_output_labels_of_classes_that_were_one(self, run, data, tmp_path):
        (data / "fish").rename(data / "C++")
        (data / "tree").rename(data / "C#")
        assert run(image_dir=data, testing_percentage=0) == 0
        assert (tmp_path / "out" / "labels.txt").read_text() == "c 0\nc 1\n"
        assert load_model(tmp_path / "out" / "model").classes == ["C#", "C++"]

    def test_output_graph(self, run, tmp_path, caplog, monkeypatch):
        written = []
        monkeypatch.setattr(retraining, "write_graph", lambda model, *where: written.append(where))
        assert run(output_graph=tmp_path / "elsewhere" / "g.pb") == 0
        assert written == [(str(tmp_path / "elsewhere" / "g.pb"), "final_result")]
        assert found(caplog, "result") == [(str(tmp_path / "elsewhere" / "g.pb"),)]
        assert (tmp_path / "elsewhere" / "model" / "model.json").exists()

    def test_output_graph_beside_a_foreign_folder(self, run, tmp_path, caplog):
        (tmp_path / "out" / "model").mkdir(parents=True)
        (tmp_path / "out" / "model" / "mine.txt").write_text("mine")
        assert run() == 0
        assert [path.name for path in (tmp_path / "out" / "model").iterdir()] == ["mine.txt"]
        assert "No model for retrain guess is written" in caplog.text

    def test_output_graph_that_is_a_folder(self, run, tmp_path, capsys):
        assert run(output_graph=tmp_path) == 1
        assert "is a folder" in capsys.readouterr().err

    @pytest.mark.parametrize("flag", ["bottleneck_dir", "summaries_dir"])
    def test_folder_that_is_a_file(self, run, picture, capsys, flag):
        assert run(**{flag: picture}) == 1
        assert "is no folder" in capsys.readouterr().err

    def test_intermediate_output_graphs(self, run, tmp_path, monkeypatch, caplog):
        written = []
        monkeypatch.setattr(retraining, "write_graph", lambda model, path, name: written.append(path))
        run(how_many_training_steps=5, intermediate_store_frequency=2, intermediate_output_graphs_dir=tmp_path / "b")
        expected = [f"{tmp_path}/bintermediate_2.pb", f"{tmp_path}/bintermediate_4.pb"]  # put together as strings
        assert written[:-1] == expected
        assert found(caplog, "intermediate") == [(path,) for path in expected]
        written.clear()
        run(how_many_training_steps=5)
        assert len(written) == 1

    def test_summaries_dir(self, run, tmp_path):
        for part in ("train", "validation"):
            (tmp_path / "logs" / part).mkdir(parents=True)
            (tmp_path / "logs" / part / "events.out.tfevents.1.host.of.others").write_bytes(b"")
        for _ in range(2):  # the second run takes the place of the first one
            assert run(how_many_training_steps=12) == 0
        for part in ("train", "validation"):
            ours, _foreign = sorted(
                (tmp_path / "logs" / part).iterdir(), reverse=True, key=lambda path: path.stat().st_size
            )
            found = {
                (value.tag, event.step)
                for event in tf.compat.v1.train.summary_iterator(str(ours))
                for value in event.summary.value
            }
            tags = {"accuracy_1", "cross_entropy_1"}
            if part == "train":
                tags |= {f"final_retrain_ops/{name}" for name in ("weights/final_weights", "biases/final_biases")}
            assert found == {(tag, step) for tag in tags for step in (0, 10, 11)}

    def test_how_many_training_steps(self, run, caplog):
        run(how_many_training_steps=14)
        assert [int(step) for step, _ in found(caplog, "train")] == [0, 10, 13]

    def test_learning_rate(self, run, caplog, capsys):
        losses = []
        for rate in (0.0001, 0.01):
            run(learning_rate=rate, how_many_training_steps=50, train_batch_size=-1)
            losses.append(float(found(caplog, "cross entropy")[-1][1]))
        assert losses[1] < losses[0] - 0.3
        assert run(learning_rate=0) == 1
        assert "--learning_rate" in capsys.readouterr().err

    @pytest.mark.parametrize("percentage", [10, 30])
    def test_testing_percentage(self, run, caplog, sample, percentage):
        run(testing_percentage=percentage)
        parts = [
            legacy_part(f"{sample.name}/{path.relative_to(sample)}", percentage / 100, 0.1)
            for path in find_dataset(sample).paths
        ]
        assert found(caplog, "test")[0][1] == str(parts.count("testing"))

    def test_validation_percentage(self, run, caplog, capsys):
        counts = []
        for percentage in (10, 30):
            run(validation_percentage=percentage, validation_batch_size=-1)
            counts.append(int(found(caplog, "validation")[0][2]))
        assert 0 < counts[0] < counts[1]
        run(validation_percentage=0)
        assert not found(caplog, "validation")
        assert "There are no pictures in the category validation" in caplog.text
        assert run(validation_percentage=60, testing_percentage=40) == 1
        assert "leave nothing to learn from" in capsys.readouterr().err

    def test_eval_step_interval(self, run, caplog, capsys):
        run(how_many_training_steps=6, eval_step_interval=2)
        assert [int(step) for step, _ in found(caplog, "train")] == [0, 2, 4, 5]
        assert run(eval_step_interval=0) == 1
        assert "--eval_step_interval is 0" in capsys.readouterr().err

    def test_train_batch_size(self, run, caplog, no_graph, head, capsys):
        run(train_batch_size=1)
        assert {accuracy for _, accuracy in found(caplog, "train")} <= {"0.0", "100.0"}
        single = head()
        run(train_batch_size=-1)
        assert np.abs(head() - single).max() > 0
        assert run(train_batch_size=0) == 1
        assert "--train_batch_size is 0" in capsys.readouterr().err

    def test_test_batch_size(self, run, caplog):
        run(test_batch_size=500)
        assert found(caplog, "test")[0][1] == "500"

    def test_validation_batch_size(self, run, caplog):
        run(validation_batch_size=7)
        assert {count for *_, count in found(caplog, "validation")} == {"7"}

    def test_print_misclassified_test_images(self, run, caplog):
        run(learning_rate=1e-6)
        assert not found(caplog, "misclassified")
        run(learning_rate=1e-6, print_misclassified_test_images=True)
        assert found(caplog, "misclassified")

    def test_bottleneck_dir(self, run, data, tmp_path, monkeypatch, caplog):
        flags = {"image_dir": data, "bottleneck_dir": tmp_path / "kept", "testing_percentage": 0}
        assert run(**flags, logging_verbosity="DEBUG") == 0
        files = sorted((tmp_path / "kept" / "fish").iterdir())
        assert [file.name for file in files] == [
            f"{path.name}_efficientnet-lite0-float32.txt" for path in sorted((data / "fish").iterdir())
        ]
        assert f"Creating bottleneck at {files[0]}" in caplog.messages
        assert len(files[0].read_text().split(",")) == 1280
        before = files[1].read_text()
        files[0].write_text("0.5,nonsense")
        shutil.copy(data / "tree" / "tree-000.jpg", data / "fish" / "fish-001.jpg")  # another picture by an old name
        assert run(**flags) == 0
        assert "Invalid float found, recreating bottleneck" in caplog.messages
        assert len(files[0].read_text().split(",")) == 1280
        assert files[1].read_text() != before

    def test_distortions(self, run, head, monkeypatch):
        run(train_batch_size=5)
        plain = head()
        for flag in ({"flip_left_right": True}, {"random_crop": 20}, {"random_scale": 20}, {"random_brightness": 20}):
            run(train_batch_size=5, **flag)
            assert np.abs(head() - plain).max() > 1e-6, flag

    @pytest.mark.parametrize("flag", ["random_crop", "random_scale", "random_brightness"])
    def test_distortion_below_nothing(self, run, capsys, flag):
        assert run(**{flag: -5}) == 1
        assert f"--{flag} is -5" in capsys.readouterr().err

    def test_tfhub_module(self, run, tmp_path, head):
        assert run(tfhub_module="efficientnet-lite0") == 0
        assert load_model(tmp_path / "out" / "model").backbones[0].spec.name == "efficientnet-lite0"
        assert run(tfhub_module=RetrainOptions.tfhub_module) == 0
        assert load_model(tmp_path / "out" / "model").backbones[0].spec.name == "efficientnet-lite0-float32"

    def test_tfhub_module_that_is_nowhere(self, run, tmp_path, capsys):
        assert run(tfhub_module="efficientnet-light0") == 1
        assert "efficientnet-lite0" in capsys.readouterr().err

    def test_tfhub_module_that_no_graph_can_hold(self, run, tmp_path, capsys):
        shutil.copy(SHIPPED / "efficientnet-lite0.tflite", tmp_path / "net.tflite")
        assert run(tfhub_module=tmp_path / "net.tflite") == 1
        assert "net.tflite cannot become a part of a graph" in capsys.readouterr().err

    def test_logging_verbosity(self, run, caplog, capsys):
        run(logging_verbosity="ERROR")
        assert not caplog.messages
        assert run(logging_verbosity="LOUD") == 1
        assert "there is no logging verbosity 'LOUD'" in capsys.readouterr().err

    def test_checkpoint_path(self, run, tmp_path, head):
        run(checkpoint_path=tmp_path / "kept" / "layer")
        checkpoint = tf.train.load_checkpoint(str(tmp_path / "kept" / "layer"))
        weights = checkpoint.get_tensor("final_retrain_ops/weights/final_weights")
        assert weights.shape[0] == 1280
        np.testing.assert_allclose(head() / weights.T, (head() / weights.T)[0, 0], rtol=1e-5)
        assert checkpoint.get_tensor("final_retrain_ops/biases/final_biases").shape == weights.shape[1:]

    def test_model_dir(self, run, tmp_path, caplog):
        assert run(model_dir=tmp_path / "inception") == 0
        assert "does nothing" not in caplog.text
        assert not (tmp_path / "inception").exists()

    def test_architecture(self, run, caplog, capsys, monkeypatch):
        asked, load = [], retraining.load_backbone
        monkeypatch.setattr(retraining, "load_backbone", lambda name: asked.append(name) or load("efficientnet-lite0"))
        for architecture in ("inception_v3", "mobilenet_1.0_160", "mobilenet_1.0_224_quantized", "mobilenet_0.50_224"):
            assert run(architecture=architecture) == 0
        assert asked == [
            "keras:InceptionV3", "keras:MobileNet,size=160", "keras:MobileNet,size=224", retraining.BACKBONE,
        ]  # fmt: skip
        assert "in the place of mobilenet_0.50_224: Keras has no weights of it." in caplog.text
        assert run(architecture="mobilenet_2.0_224") == 1
        assert "there is no architecture 'mobilenet_2.0_224'" in capsys.readouterr().err


def test_architecture_that_cannot_be_had_is_replaced(run, no_graph, caplog, monkeypatch):
    def load(name):
        if name.startswith("keras:"):
            raise retraining.RetrainError("the weights are not here.", "Fetch them.")
        return load_backbone(name)

    load_backbone = retraining.load_backbone
    monkeypatch.setattr(retraining, "load_backbone", load)
    assert run(architecture="mobilenet_1.0_224") == 0
    assert "in the place of mobilenet_1.0_224: the weights are not here." in caplog.text


def test_final_tensor_name_is_in_the_graph(run, tmp_path):
    run(final_tensor_name="flower_type")
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString((tmp_path / "out" / "graph.pb").read_bytes())
    names = {node.name for node in graph.node}
    assert {"flower_type", "DecodeJpeg/contents", "input", "Placeholder"} <= names
    assert "final_result" not in names


def test_saved_model_dir_holds_what_the_original_wrote(run, no_graph, tmp_path, picture, capsys):
    assert run(saved_model_dir=tmp_path / "saved") == 0
    serve = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    (entry,) = serve.structured_input_signature[1].values()
    assert (entry.name, entry.dtype, entry.shape.as_list()) == ("image", tf.float32, [None, 224, 224, 3])
    model = load_model(tmp_path / "out" / "model")
    (backbone,) = model.backbones
    from retrain.images import decode, read

    pixels = backbone.to_input(decode(read(picture)))
    prediction = serve(image=tf.constant(pixels[None] / np.float32(255)))["prediction"].numpy()
    (guess,) = Classifier(model).guess([picture])
    expected = [guess.scores[name] for name in model.classes]
    np.testing.assert_allclose(prediction, [expected], atol=1e-4)
    assert run(saved_model_dir=tmp_path / "saved") == 1  # which is not overwritten
    assert "not an empty folder" in capsys.readouterr().err


def test_graph_of_a_module(run, tmp_path, picture):
    module = networks.save_reusable(tmp_path / "module")
    assert run(tfhub_module=module, bottleneck_dir=tmp_path / "kept") == 0
    assert (tmp_path / "kept" / "tree" / "tree-000.jpg_hub~module.txt").exists()
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString((tmp_path / "out" / "graph.pb").read_bytes())
    run_graph = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    fetch = run_graph.prune("DecodeJpeg/contents:0", "final_result:0")
    (guess,) = Classifier.load(tmp_path / "out" / "model").guess([picture])
    found = dict(zip(sorted(guess.scores), fetch(tf.constant(picture.read_bytes()))[0].numpy(), strict=True))
    assert found == pytest.approx(guess.scores, abs=0.02)


def test_bad_pictures_are_passed_over(run, no_graph, data, tmp_path, caplog):
    (data / "fish" / "Thumbs.db").write_bytes(b"none")
    assert run(image_dir=data, testing_percentage=0) == 0  # the original did not look at such
    (data / "fish" / "cut.jpg").write_bytes((data / "fish" / "fish-000.jpg").read_bytes()[:500])
    assert run(image_dir=data, testing_percentage=0) == 3
    assert f"skipped {data / 'fish' / 'cut.jpg'}: truncated" in caplog.text


def test_final_tensor_name_that_none_can_have_is_told_before_any_work(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(retraining, "find_pictures", lambda *_: pytest.fail("it was begun"))
    assert run(final_tensor_name="my result") == 1
    assert "no tensor can be named 'my result'" in capsys.readouterr().err
