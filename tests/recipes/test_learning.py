import csv
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retrain import LearnOptions, RetrainError, TrainOptions, learn, train
from retrain.options import SampleOptions
from retrain.recipes import learning, results
from retrain.recipes.locking import locked
from retrain.recipes.sampling import draw_sample

OPTIONS = {"sources": ("openverse",), "limit": 24, "threshold": 0.5, "min_size": (64, 64)}
PETS = ["fish", "tree"]


@pytest.fixture(scope="session")
def album(tmp_path_factory):
    """Four pictures a class, none of which is in `sample`, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("album") / "album"
    draw_sample(folder, SampleOptions(per_class=4, size=96, seed=7))
    (folder / "fish" / "words.jpg").write_text("words")
    return folder


@pytest.fixture
def gallery(sample, open_gallery, tmp_path, monkeypatch):
    """A site that has the pictures of `sample`; the test runs in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return open_gallery(sample)


def table(folder):
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def all_files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stop_before_training(monkeypatch, album):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(learning, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            learn(PETS, album, LearnOptions(**OPTIONS))


def test_from_names_to_results(gallery, album, tmp_path):
    result = learn(PETS, album, LearnOptions(**OPTIONS))
    assert result["classes"] == PETS
    assert 40 <= result["trained"]["images"] <= 48  # some may look like the other class
    assert result["images"] == 20
    assert result["covered"] + result["missed"] == 20
    assert sum(result["labels"].values()) == result["covered"]
    assert [row["path"] for row in result["skipped"]] == [str(album / "fish" / "words.jpg")]
    out = tmp_path / "here" / "results"
    for label, count in result["labels"].items():
        assert count > 0
        names = sorted(path.name for path in (out / label).iterdir())
        assert len(names) == 3 * count
        assert {name.rpartition("-")[2] for name in names} == {"original.jpg", "heatmap.jpg", "segment.jpg"}
    rows = table(out)
    assert len(rows) == 21
    assert sum(row["covered"] == "True" for row in rows) == result["covered"]
    for row in rows:
        assert (row["covered"] == "True") == (out / row["heatmap"]).is_file()
        assert (row["error"] != "") == row["path"].endswith("words.jpg")
    assert "fish, tree" in (out / "index.html").read_text()


def test_seven_rows_count_the_pictures_in_folders_of_the_classes(gallery, album):
    result = learn(PETS, album, LearnOptions(**OPTIONS))
    counts = result["at_threshold"]
    assert counts["total_images"] == 8
    assert counts["threshold_images"] + counts["missed"] == 8
    assert counts["correct"] + counts["misclassified"] == counts["threshold_images"]
    assert counts["threshold"] == 0.5
    assert learn(PETS, album / "sun", LearnOptions(**OPTIONS))["at_threshold"] is None


def test_second_run_trains_and_crawls_nothing_in_whatever_order(gallery, album, tmp_path):
    first = learn(PETS, album, LearnOptions(**OPTIONS))
    asked, files = len(gallery.asked), all_files(tmp_path / "here")
    model = all_files(tmp_path / "tf_files" / "model")
    second = learn(PETS[::-1], album, LearnOptions(**OPTIONS))
    assert second["trained"] is None
    assert second == first | {"trained": None}
    assert len(gallery.asked) == asked
    assert all_files(tmp_path / "tf_files" / "model") == model
    pages = {"results/index.html"}
    assert {name: content for name, content in all_files(tmp_path / "here").items() if name not in pages} == {
        name: content for name, content in files.items() if name not in pages
    }


def test_new_pictures_join_the_results_and_changed_ones_are_guessed_again(gallery, album, tmp_path, monkeypatch):
    shutil.copytree(album, tmp_path / "own")
    first = learn(PETS, tmp_path / "own", LearnOptions(**OPTIONS))
    shutil.copy(album / "tree" / "tree-000.jpg", tmp_path / "own" / "new.jpg")
    shutil.copy(album / "fish" / "fish-000.jpg", tmp_path / "own" / "tree" / "tree-001.jpg")
    looked = []
    look = results._look
    monkeypatch.setattr(results, "_look", lambda classifier, path: looked.append(path.name) or look(classifier, path))
    second = learn(PETS, tmp_path / "own", LearnOptions(**OPTIONS))
    assert sorted(looked) == ["new.jpg", "tree-001.jpg"]
    assert second["images"] == first["images"] + 1
    assert second["results"] == first["results"]


def test_another_threshold_gets_results_of_its_own(gallery, album, tmp_path):
    learn(PETS, album, LearnOptions(**OPTIONS))
    before = all_files(tmp_path / "here" / "results")
    result = learn(PETS, album, LearnOptions(**OPTIONS | {"threshold": 1.0}))
    assert result["results"] == "results-2"
    assert result["covered"] == 0
    assert all_files(tmp_path / "here" / "results") == before


def test_somebody_else_s_folder_is_left_alone(gallery, album, tmp_path):
    (tmp_path / "here" / "results").mkdir()
    (tmp_path / "here" / "results" / "thesis.txt").write_text("years of work")
    assert learn(PETS, album, LearnOptions(**OPTIONS))["results"] == "results-2"
    assert all_files(tmp_path / "here" / "results") == {"thesis.txt": b"years of work"}


def test_model_of_other_classes_stays(gallery, album, sample, tmp_path):
    train(sample, TrainOptions(only=("house", "sun"), model_dir=tmp_path / "tf_files" / "model", report=False))
    model = all_files(tmp_path / "tf_files" / "model")
    result = learn(PETS, album, LearnOptions(**OPTIONS))
    assert re.fullmatch(r"model-fish\+tree-[0-9a-f]{8}", Path(result["model_dir"]).name)
    assert Path(result["model_dir"]).parent == tmp_path / "tf_files"
    assert all_files(tmp_path / "tf_files" / "model") == model
    assert learn(PETS, album, LearnOptions(**OPTIONS))["trained"] is None


def test_own_pictures_are_used_as_they_are(gallery, album, sample, tmp_path):
    for name in PETS:
        shutil.copytree(sample / name, tmp_path / "tf_files" / "data" / name)
    shutil.copy(sample / "fish" / "fish-000.jpg", tmp_path / "tf_files" / "data" / "fish" / "copy.jpg")
    before = all_files(tmp_path / "tf_files" / "data")
    learn(PETS, album, LearnOptions(**OPTIONS))
    assert not gallery.asked
    assert all_files(tmp_path / "tf_files" / "data") == before


def test_crawled_copies_are_cleaned_away_and_nothing_is_crawled_anew(gallery, album, sample, tmp_path, monkeypatch):
    gallery.files["fish-blank"] = tmp_path / "blank.png"
    from PIL import Image

    Image.new("RGB", (96, 96), "white").save(tmp_path / "blank.png")
    gallery.catalogue["fish"].insert(0, ("fish-blank", "by"))
    stop_before_training(monkeypatch, album)
    asked = len(gallery.asked)
    assert len(list((tmp_path / "tf_files" / "quarantine").rglob("*.png"))) == 1
    result = learn(PETS, album, LearnOptions(**OPTIONS))
    assert 40 <= result["trained"]["images"] < 48
    assert len(gallery.asked) == asked


def test_named_model_of_other_classes_is_never_replaced(gallery, album, sample, tmp_path):
    train(sample, TrainOptions(only=("house", "sun"), model_dir=tmp_path / "mine", report=False))
    with pytest.raises(RetrainError, match="knows other classes: house, sun"):
        learn(PETS, album, LearnOptions(**OPTIONS, model_dir=tmp_path / "mine"))
    assert not gallery.asked


def test_training_and_test_folders_are_used_as_they_are(gallery, album, sample, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(sample, tmp_path / "tf_files" / "data" / part)
    result = learn(PETS, album, LearnOptions(**OPTIONS))
    assert result["trained"]["images"] == 96
    assert not gallery.asked


def test_pictures_that_the_model_has_learned_are_counted(gallery, sample, tmp_path, caplog):
    for name in PETS:
        shutil.copytree(sample / name, tmp_path / "tf_files" / "data" / name)
    result = learn(PETS, tmp_path / "tf_files" / "data", LearnOptions(**OPTIONS))
    assert 40 <= result["learned"] <= 48
    assert f"{result['learned']} of 48 pictures were learned by this model" in caplog.text


def test_offline_what_was_crawled_before_has_to_do(gallery, album, monkeypatch, caplog):
    stop_before_training(monkeypatch, album)
    monkeypatch.setenv("RETRAIN_OPENVERSE_URL", "http://127.0.0.1:9/v1/")
    with pytest.raises(RetrainError, match="no network: "):
        learn([*PETS, "sun"], album, LearnOptions(**OPTIONS | {"limit": 30}))
    result = learn(PETS, album, LearnOptions(**OPTIONS | {"limit": 30}))
    assert result["trained"]["images"] >= 40
    assert "no network: " in caplog.text


def test_source_that_wants_a_contact_is_no_failure_of_the_crawl(gallery, album, monkeypatch):
    monkeypatch.delenv("RETRAIN_CONTACT")
    options = LearnOptions(**OPTIONS | {"sources": ("openverse", "wikimedia")})
    assert {row["source"] for row in learn(PETS, album, options)["failures"]} == {"wikimedia"}
    asked = len(gallery.asked)
    shutil.rmtree(os.environ["TF_FILES"] + "/model")
    learn(PETS, album, options)
    assert len(gallery.asked) == asked


def test_fewer_pictures_than_teach_anything_are_not_asked_for(gallery, album):
    with pytest.raises(RetrainError, match="9 pictures a class are too few") as caught:
        learn(PETS, album, LearnOptions(**OPTIONS | {"limit": 9}))
    assert "--limit 10" in caught.value.hint
    assert not gallery.asked


def test_class_without_pictures_is_an_error_that_says_what_to_do(gallery, album):
    with pytest.raises(RetrainError, match="0 pictures of unicorn were found, at least 10 are needed") as caught:
        learn(["fish", "unicorn"], album, LearnOptions(**OPTIONS))
    assert "put pictures into" in caught.value.hint


def test_without_a_network_one_line_says_so(gallery, album, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRAIN_OPENVERSE_URL", "http://127.0.0.1:9/v1/")
    with pytest.raises(RetrainError, match="no network: ") as caught:
        learn(PETS, album, LearnOptions(**OPTIONS, out=tmp_path / "results"))
    assert "--source urls" in caught.value.hint
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("classes", "folder", "message"), [
    (["cat"], "album", "one class cannot be told from others"),
    (["cat", "cat"], "album", "one class cannot be told from others"),
    (["cat", "dog"], "nowhere", "there is no file or folder"),
    (["cat", "dog"], "empty", "no files under"),
])  # fmt: skip
def test_what_cannot_be_learned_is_said_before_anything_is_asked(gallery, album, tmp_path, classes, folder, message):
    (tmp_path / "empty").mkdir()
    path = album if folder == "album" else tmp_path / folder
    with pytest.raises(RetrainError, match=message):
        learn(classes, path, LearnOptions(**OPTIONS))
    assert not gallery.asked


def test_results_never_join_what_is_guessed(gallery, album):
    with pytest.raises(RetrainError, match="whose pictures it would join"):
        learn(PETS, album, LearnOptions(**OPTIONS, out=album / "results"))


def test_results_belong_to_a_folder_however_it_is_typed(gallery, album, tmp_path, monkeypatch):
    first = learn(PETS, album, LearnOptions(**OPTIONS, out=tmp_path / "out"))
    looked = []
    monkeypatch.setattr(results, "_look", lambda _, path: looked.append(path))
    monkeypatch.chdir(album)
    second = learn(PETS, ".", LearnOptions(**OPTIONS, out=tmp_path / "out"))
    assert not looked
    assert second["results"] == first["results"]
    assert {row["path"][:2] for row in table(tmp_path / "out")} == {"./"}


def test_what_was_taken_out_of_the_results_is_put_there_again(gallery, album, tmp_path):
    learn(PETS, album, LearnOptions(**OPTIONS))
    out = tmp_path / "here" / "results"
    before = all_files(out / "fish")
    next((out / "fish").iterdir()).unlink()
    learn(PETS, album, LearnOptions(**OPTIONS))
    assert all_files(out / "fish") == before


def test_changed_picture_leaves_nothing_of_the_old_one(gallery, album, tmp_path):
    shutil.copytree(album, tmp_path / "own")
    learn(PETS, tmp_path / "own", LearnOptions(**OPTIONS))
    for path in (tmp_path / "own" / "fish").glob("*.jpg"):
        path.write_text("words, longer than they were")
    result = learn(PETS, tmp_path / "own", LearnOptions(**OPTIONS))
    out = tmp_path / "here" / "results"
    named = {row[kind] for row in table(out) for kind in ("original", "heatmap", "segment") if row[kind]}
    assert {str(path.relative_to(out)) for path in out.rglob("*.jpg")} == named
    assert len(named) == 3 * result["covered"]


def test_class_never_takes_the_name_of_a_file_of_the_results(album, sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label, name in (("index.html", "fish"), ("results.csv", "tree")):
        shutil.copytree(sample / name, tmp_path / "tf_files" / "data" / label)
    result = learn(["index.html", "results.csv"], album, LearnOptions(**OPTIONS))
    assert set(result["labels"]) == {"index.html", "results.csv"}
    assert len(table(tmp_path / "results")) == 21
    assert (tmp_path / "results" / "label-index.html").is_dir()


def test_no_class_is_a_formula_to_a_spreadsheet(album, sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label, name in (("=1+1", "fish"), ("@SUM(A1)", "tree")):
        shutil.copytree(sample / name, tmp_path / "tf_files" / "data" / label)
    learn(["=1+1", "@SUM(A1)"], album, LearnOptions(**OPTIONS))
    rows = table(tmp_path / "results")
    assert {row["label"] for row in rows if row["label"]} <= {"'=1+1", "'@SUM(A1)"}
    assert {row["original"][:2] for row in rows if row["original"]} <= {"'=", "'@"}


def test_second_run_beside_the_first_is_refused(gallery, album, tmp_path):
    learn(PETS, album, LearnOptions(**OPTIONS))
    with (
        locked(tmp_path / "here" / "results" / results.OWN / "lock", "learn", "results"),
        pytest.raises(RetrainError, match="another retrain learn is at work"),
    ):
        learn(PETS, album, LearnOptions(**OPTIONS))


def test_damaged_notes_of_a_killed_run_cost_no_more_than_their_pictures(gallery, album, tmp_path):
    first = learn(PETS, album, LearnOptions(**OPTIONS))
    rows = tmp_path / "here" / "results" / results.OWN / "rows.jsonl"
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join(["null", "[", '{"name": 1}', *lines[4:]]) + "\n")
    (tmp_path / "tf_files" / "data" / ".retrain-crawl" / "collected.json").write_text('{"fish": 7}')
    second = learn(PETS, album, LearnOptions(**OPTIONS))
    assert second["labels"] == first["labels"]
    assert len(table(tmp_path / "here" / "results")) == 21


def test_hostile_names_stay_names(gallery, album, tmp_path):
    folder = tmp_path / "own"
    (folder / "fish").mkdir(parents=True)
    for name in (
        '<img src=x onerror="alert(1)">.jpg',
        "con.jpg",
        "=1+1.jpg",
        "a\nb.jpg",
        "\udcff.jpg",
        "-original.jpg",
    ):
        shutil.copy(album / "fish" / "fish-000.jpg", folder / "fish" / name)
    result = learn(PETS, folder, LearnOptions(**OPTIONS | {"threshold": 0.0}, reject_rate=0.0))
    assert result["covered"] == 6
    out = tmp_path / "here" / "results"
    assert sum(len(list((out / name).iterdir())) for name in ("fish", "tree") if (out / name).exists()) == 18
    assert "<img src=x" not in (out / "index.html").read_text()
    assert len((out / "results.csv").read_bytes()) > 0
    assert {path.parent.parent for path in out.rglob("*.jpg")} == {out}


SCRIPT = """
import sys
import retrain.fetch
from retrain.options import FetchOptions, LearnOptions
from retrain.sources import SOURCES
retrain.fetch.FetchOptions = lambda: FetchOptions(rates=((10_000, 1),))
SOURCES["openverse"] = SOURCES["openverse"]._replace(rates=())
from retrain import learn
learn(["fish", "tree"], sys.argv[1], LearnOptions(sources=("openverse",), limit=24, threshold=0.5, min_size=(64, 64)))
"""


def test_killed_run_goes_on_where_it_stopped(gallery, sample, tmp_path):
    here = tmp_path / "here"
    for wait in (0.3, 0.6, 0.9, 1.3, 1.7, 2.1, 2.6):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(sample)], cwd=here)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([sys.executable, "-c", SCRIPT, str(sample)], cwd=here, check=True)
    rows = table(here / "results")
    assert len({row["path"] for row in rows}) == len(rows) == 120
    named = {row[kind] for row in rows for kind in ("original", "heatmap", "segment") if row[kind]}
    there = {str(path.relative_to(here / "results")) for path in (here / "results").rglob("*.jpg")}
    assert named == there
    manifest = [
        json.loads(line) for line in (tmp_path / "tf_files" / "data" / "manifest.jsonl").read_text().splitlines()
    ]
    assert len({row["id"] for row in manifest}) == len(manifest) == 48


def test_what_a_kill_has_left_unplaced_gets_its_place(gallery, album, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    learn(PETS, album, LearnOptions(**OPTIONS))
    out = tmp_path / "here" / "results"
    rows = [json.loads(line) for line in (out / ".retrain-learn" / "rows.jsonl").read_text().splitlines()]
    last = max(number for number, row in enumerate(rows) if row["covered"])
    with open(out / ".retrain-learn" / "rows.jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows[: last + 1])
        file.write('{"path": "tor')
    heatmap = out / rows[last]["heatmap"]
    content = heatmap.read_bytes()
    heatmap.rename(out / ".retrain-learn" / "staged" / "heatmap")
    (out / ".retrain-learn" / "staged" / "segment").write_bytes(b"of a picture without a row")
    (out / rows[last]["segment"]).unlink()
    learn(PETS, album, LearnOptions(**OPTIONS))
    assert heatmap.read_bytes() == content
    assert len(table(out)) == len(rows)
