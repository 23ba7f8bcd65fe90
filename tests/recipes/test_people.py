"""Training on faces, what is kept of them, and how it is forgotten.  The faces are discs."""

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_faces import COLOURS, draw_people, find_discs, people, use_discs  # noqa: F401 - a fixture

from retrain import Classifier, EvaluateOptions, TrainOptions, evaluate, train, train_like
from retrain.bottlenecks import digests_marked, erase
from retrain.errors import RetrainError
from retrain.face_classifier import FaceClassifier, FaceGuess, face_rows
from retrain.faces import FINGERPRINT, MARK, crop_main
from retrain.images import decode, read
from retrain.model import load_model
from retrain.options import ServeOptions
from retrain.recipes import forgetting
from retrain.recipes.consent import require_consent
from retrain.recipes.cropping import alone_with_faces, crops_in
from retrain.recipes.explaining import explain_pictures
from retrain.recipes.forgetting import forget, kept_faces
from retrain.serve.engine import Engine


@pytest.fixture(scope="module")
def taught(people, tmp_path_factory):  # noqa: F811
    """A tf_files folder with a model of faces, and what `train` returned.  Read only."""
    folder = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        use_discs(patch)
        return folder, train(people, TrainOptions(model_dir=folder / "model", faces=True))


@pytest.fixture
def model_dir(taught, tmp_path, monkeypatch):
    """A copy of it, at the default place; discs are faces."""
    use_discs(monkeypatch)
    shutil.copytree(taught[0], tmp_path / "tf_files")
    return tmp_path / "tf_files" / "model"


@pytest.fixture
def photos(people, tmp_path):  # noqa: F811
    """The photos, to be changed at will."""
    return Path(shutil.copytree(people, tmp_path / "photos"))


def everything_in(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def digests_in(tf_files, name):
    return [bytes.fromhex(path.stem) for path in (tf_files / "faces" / name).glob("*.jpg")]


def test_photos_without_a_face_of_their_own_are_left_out_and_told(taught, people):  # noqa: F811
    result = taught[1]
    assert result["images"] == 24
    assert {Path(row["path"]).name: row["reason"].partition(" ")[0] for row in result["skipped"]} == {
        "nobody.jpg": "no_face", "with-ben.jpg": "several_faces"
    }  # fmt: skip
    assert result["accuracy"] > 0.6


def test_what_is_on_a_photo_is_told_face_by_face(model_dir, tmp_path):
    photo = draw_people(tmp_path / "party.jpg", "cleo", "anna", seed=99)
    draw_people(tmp_path / "wall.jpg")
    (tmp_path / "text.jpg").write_text("words")
    party, wall, text = FaceClassifier.load(model_dir).guess_files(
        [photo, tmp_path / "wall.jpg", tmp_path / "text.jpg"]
    )
    assert [face.label for face in party.faces] == ["cleo", "anna"]
    surest = max(party.faces, key=lambda face: (not face.unknown, face.confidence))
    assert (party.label, party.confidence, party.unknown) == (surest.label, surest.confidence, surest.unknown)
    assert [face.box for face in party.faces] == [face.box for face in find_discs(decode(read(photo)))]
    assert (wall.label, wall.error, wall.faces) == (None, None, [])
    assert text.error.startswith("not_an_image")
    assert face_rows(wall) == [FaceGuess(wall.path)]
    assert face_rows(text) == [FaceGuess(text.path, error=text.error)]
    (gone,) = FaceClassifier.load(model_dir).guess_files([tmp_path / "gone.jpg"])
    assert face_rows(gone) == [FaceGuess(gone.path, error=gone.error)]
    assert gone.error.startswith("unreadable")


def test_guess_is_that_of_the_face_cut_out(model_dir, tmp_path):
    photo = draw_people(tmp_path / "one.jpg", "ben", seed=77)
    classifier = FaceClassifier.load(model_dir)
    (guess,) = classifier.guess_files([photo])
    cut = crop_main(decode(read(photo)))
    probabilities = classifier.probabilities_of(Classifier.embed(classifier, cut))[0]
    assert guess.confidence == pytest.approx(probabilities.max())


def test_only_who_asks_for_faces_gets_a_model_of_faces(model_dir, trained, tmp_path):
    assert load_model(model_dir, faces=True).of_faces
    assert load_model(model_dir, faces=None).of_faces
    for use in (
        lambda: load_model(model_dir),
        lambda: Classifier.load(model_dir),
        lambda: explain_pictures([tmp_path], tmp_path / "out"),
        lambda: evaluate(tmp_path),
        lambda: Engine(ServeOptions()),
    ):
        with pytest.raises(RetrainError, match="knows people by their faces") as raised:
            use()
        assert "--faces" in raised.value.hint
    with pytest.raises(RetrainError, match="trained on whole pictures"):
        FaceClassifier.load(trained / "model")


@pytest.mark.parametrize("command", [["export", "zip"], ["odd", "--label", "anna", "photo.jpg"]])
def test_nothing_else_takes_a_model_of_faces(command, model_dir, tmp_path, monkeypatch):
    from click.testing import CliRunner

    from retrain.cli import cli

    monkeypatch.chdir(tmp_path)
    draw_people(tmp_path / "photo.jpg", "anna")
    result = CliRunner().invoke(cli, command)
    assert isinstance(result.exception, RetrainError)
    assert "knows people by their faces" in str(result.exception)


def test_model_of_faces_cut_out_otherwise_is_refused(model_dir):
    path = model_dir / "model.json"
    manifest = json.loads(path.read_text())
    assert (manifest["format_version"], manifest["faces"]) == (4, FINGERPRINT)
    path.write_text(json.dumps(manifest | {"faces": "otherwise"}))
    with pytest.raises(RetrainError, match="cut out in another way"):
        load_model(model_dir, faces=True)


def test_ordinary_models_are_written_as_before(trained):
    manifest = json.loads((trained / "model" / "model.json").read_text())
    assert manifest["format_version"] == 2
    assert "faces" not in manifest


def test_faces_and_whole_pictures_share_no_embedding(model_dir, photos):
    assert train(photos, TrainOptions(faces=True))["computed"] == 0
    assert train(photos, TrainOptions(model_dir=model_dir.with_name("plain"), report=False))["computed"] == 26


def test_same_options_train_on_faces_again(model_dir, photos):
    again = model_dir.with_name("again")
    assert train_like(model_dir, photos, model_dir=again)["differences"] == []
    assert load_model(again, faces=True).of_faces


@pytest.mark.parametrize("options", [{"fine_tune": True}, {"quality": "best"}, {"multi_label": True}])
def test_faces_are_not_for_every_training(options, people, monkeypatch):  # noqa: F811
    use_discs(monkeypatch)
    with pytest.raises(RetrainError, match="faces"):
        train(people, TrainOptions(faces=True, **options))


def test_evaluation_keeps_nothing_of_anybody(model_dir, tmp_path):
    before = sqlite3.connect(model_dir.with_name("bottlenecks.sqlite")).execute("SELECT count(*) FROM files").fetchone()
    for name in COLOURS:
        draw_people(tmp_path / "test" / name / "new.jpg", name, seed=123)
    result = evaluate(tmp_path / "test", EvaluateOptions(faces=True))
    assert result["test_images"] == 3
    after = sqlite3.connect(model_dir.with_name("bottlenecks.sqlite")).execute("SELECT count(*) FROM files").fetchone()
    assert before == after


def test_every_face_learned_is_kept_to_be_looked_at(model_dir, photos):
    assert kept_faces() == {"anna": 8, "ben": 8, "cleo": 8}
    assert (model_dir.with_name("faces").stat().st_mode & 0o777) == 0o700
    moved = photos / "ben" / "0.jpg"
    moved.rename(photos / "cleo" / "was-ben.jpg")
    draw_people(photos / "_unknown" / "stranger.jpg", "anna", seed=55)
    train(photos, TrainOptions(faces=True))
    assert kept_faces() == {"_unknown": 1, "anna": 8, "ben": 7, "cleo": 9}


def test_report_shows_faces_rather_than_photos(model_dir):
    page = (model_dir / "report.html").read_text()
    assert "retrain guess --faces" in page
    assert "retrain explain" not in page


def test_forgetting_leaves_no_byte_of_somebody(model_dir, photos):
    tf_files = model_dir.parent
    train(photos, TrainOptions(faces=True))  # from these paths
    gone, kept = digests_in(tf_files, "anna"), digests_in(tf_files, "ben")
    connection = sqlite3.connect(tf_files / "bottlenecks.sqlite")
    query = "SELECT embedding FROM embeddings WHERE sha256 = ?"
    embeddings = [row for digest in gone for (row,) in connection.execute(query, [digest])]
    connection.close()
    assert len(gone) == 8
    assert len(embeddings) == 16  # and the thumbnails
    content = everything_in(tf_files)
    assert all(part in content for part in [*gone, *(row[:64] for row in embeddings)])
    photos_before = everything_in(photos)
    (model_dir / "notes.txt").write_text("mine")
    result = forget("anna")
    assert (result["crops"], result["embeddings"], result["models"]) == (8, 16, [str(model_dir)])
    assert {str(photos / "anna" / f"{number}.jpg") for number in range(8)} <= set(result["photos"])
    content = everything_in(tf_files)
    assert not any(
        part in content for part in [*gone, *(row[:64] for row in embeddings), str(photos / "anna").encode()]
    )
    assert b"anna" not in content
    assert all(digest in content for digest in kept)
    assert everything_in(photos) == photos_before
    assert [path.name for path in model_dir.iterdir()] == ["notes.txt"]
    assert kept_faces() == {"ben": 8, "cleo": 8}
    with pytest.raises(RetrainError, match="no faces of 'anna' are kept"):
        forget("anna")


def test_forgetting_takes_every_model_of_faces_that_learned_somebody_and_no_other(model_dir, photos, trained):
    train(photos, TrainOptions(model_dir=model_dir.with_name("two"), faces=True, only=("ben", "cleo"), report=False))
    train(photos, TrainOptions(model_dir=model_dir.with_name("plain"), report=False))
    assert forget("anna")["models"] == [str(model_dir)]
    assert not model_dir.exists()
    assert load_model(model_dir.with_name("two"), faces=True).classes == ["ben", "cleo"]
    assert "anna" in load_model(model_dir.with_name("plain")).classes


def test_forgetting_takes_what_a_killed_training_was_saving(model_dir):
    scratch = model_dir.with_name(".model.new-abc")
    scratch.mkdir()
    (scratch / "trust.npz").write_bytes(b"a face")
    forget("anna")
    assert not scratch.exists()


def test_forgetting_that_was_stopped_goes_on(model_dir, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "erase", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            forget("anna")
    assert not model_dir.exists()
    assert kept_faces()["anna"] == 8
    assert forget("anna")["embeddings"] == 16
    assert "anna" not in kept_faces()


@pytest.mark.parametrize("cause", ["left out", "stopped", "deleted by hand"])
def test_rows_of_faces_that_no_crop_tells_of_are_forgotten_too(cause, people, tmp_path, monkeypatch):  # noqa: F811
    use_discs(monkeypatch)
    options = TrainOptions(model_dir=tmp_path / "m", faces=True, report=False)
    if cause == "left out":
        train(people, replace(options, max_per_class=2))
    elif cause == "stopped":
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr("retrain.recipes.training.keep_crops", lambda *_: 1 / 0)
            train(people, options)
    else:
        train(people, options)
        shutil.rmtree(tmp_path / "faces" / "anna")
    store = tmp_path / "bottlenecks.sqlite"
    crops = set(map(bytes.fromhex, crops_in(tmp_path / "faces")))
    strays = digests_marked(store, MARK) - crops
    assert len(strays) == {"left out": 18, "stopped": 24, "deleted by hand": 8}[cause]
    if cause == "stopped":
        with pytest.raises(RetrainError, match="no faces of 'anna' are kept"):
            forget("anna", options.model_dir)
    else:
        photos = forget("anna", options.model_dir)["photos"]
        assert photos == [str(people / "anna" / f"{number}.jpg") for number in range(8)]
    assert not any(digest in everything_in(tmp_path) for digest in strays)
    assert digests_marked(store, MARK) == set(map(bytes.fromhex, crops_in(tmp_path / "faces")))


def test_photo_of_two_labels_is_kept_and_forgotten_under_each(photos, tmp_path, monkeypatch):
    use_discs(monkeypatch)
    options = TrainOptions(model_dir=tmp_path / "m", faces=True, report=False)
    for label in ("cleo", "_unknown"):
        (photos / label).mkdir(exist_ok=True)
        shutil.copy(photos / "anna" / "0.jpg", photos / label / "copy.jpg")
    for _ in range(2):
        train(photos, options)
        assert kept_faces(options.model_dir) == {"_unknown": 1, "anna": 8, "ben": 8, "cleo": 9}
    gone = digests_in(tmp_path, "anna")
    assert forget("anna", options.model_dir)["crops"] == 8
    assert not any(digest in (tmp_path / "bottlenecks.sqlite").read_bytes() for digest in gone)


def test_foreign_files_among_the_crops_do_not_keep_anybody_from_being_forgotten(model_dir):
    (model_dir.with_name("faces") / "anna" / "by-hand.jpg").write_bytes(b"")
    model_dir.with_name("retrained_labels.txt").write_bytes(b"\xff")
    assert forget("anna")["crops"] == 8
    assert "anna" not in kept_faces()


def test_label_of_a_strangers_model_leads_to_no_other_folder(model_dir, photos):
    path = model_dir / "model.json"
    path.write_text(path.read_text().replace('"anna"', f'"{photos / "anna"}"'))
    before = everything_in(photos)
    result = forget(str(photos / "anna"))
    assert (result["models"], result["crops"]) == ([str(model_dir)], 0)
    assert everything_in(photos) == before


def test_learning_and_forgetting_keep_out_of_each_others_way(model_dir, photos):
    with alone_with_faces(model_dir.parent):
        with pytest.raises(RetrainError, match="another retrain train --faces or faces --forget is at work"):
            forget("anna", model_dir)
        with pytest.raises(RetrainError, match="is at work"):
            train(photos, TrainOptions(model_dir=model_dir, faces=True))
    assert forget("anna", model_dir)["crops"]


def test_store_in_use_is_not_said_to_be_clean(model_dir, monkeypatch):
    monkeypatch.setattr("retrain.bottlenecks.BUSY_TIMEOUT_S", 0.05)
    path = model_dir.with_name("bottlenecks.sqlite")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM embeddings").fetchone()
    with pytest.raises(RetrainError, match="still holds what was to be deleted"):
        erase(path, digests_in(model_dir.parent, "anna"))
    other.close()
    forget("anna")


def test_stores_set_aside_go_with_it(model_dir):
    broken = model_dir.with_name("bottlenecks.sqlite.broken-1")
    broken.write_bytes(b"anna")
    forget("anna")
    assert not broken.exists()


@pytest.mark.parametrize("where", ["itself", "above", "below", "link", "linked file", "below a link"])
def test_crawled_photos_need_consent(where, tmp_path, people, monkeypatch):  # noqa: F811
    data, crawled = tmp_path / "data", tmp_path / "crawled"
    (data / "anna").mkdir(parents=True)
    photo = draw_people(crawled / "anna" / "0.jpg", "anna")
    manifest = {"itself": data, "above": tmp_path, "below": data / "anna"}.get(where, crawled)
    (manifest / "manifest.jsonl").write_text("{}\n")
    if where == "link":
        (data / "linked").symlink_to(crawled / "anna")
    elif where == "below a link":
        (data / "linked").symlink_to(tmp_path / "albums")
        (tmp_path / "albums").mkdir()
        (tmp_path / "albums" / "crawled").symlink_to(crawled)
    elif where == "linked file":
        (data / "anna" / "0.jpg").symlink_to(photo)
    for paths in ([data], [people, data]):
        with pytest.raises(RetrainError, match="crawled"):
            require_consent(paths, consented=False)
        require_consent(paths, consented=True)
    use_discs(monkeypatch)
    with pytest.raises(RetrainError, match="crawled"):
        train(data, TrainOptions(faces=True))


def test_faces_go_to_no_cluster(people):  # noqa: F811
    with pytest.raises(RetrainError, match="this machine alone"):
        require_consent([people], consented=True, engine="ray")
    with pytest.raises(RetrainError, match="no folder of this machine"):
        require_consent(["s3://bucket/people"], consented=True)


def test_own_photos_need_no_word_of_consent(people, tmp_path):  # noqa: F811
    require_consent([people, people / "anna" / "0.jpg", tmp_path / "missing"], consented=False)


def test_faces_are_learned_with_a_notice(people, tmp_path, monkeypatch, caplog):  # noqa: F811
    use_discs(monkeypatch)
    train(people, TrainOptions(model_dir=tmp_path / "m", faces=True, only=("anna", "ben"), report=False))
    assert "GDPR art. 9" in caplog.text


def test_few_faces_tell_no_strangers_and_that_is_said(people, tmp_path, monkeypatch, caplog):  # noqa: F811
    use_discs(monkeypatch)
    options = TrainOptions(model_dir=tmp_path / "m", faces=True, max_per_class=2, test_share=0, report=False)
    train(people, options)
    classifier = FaceClassifier.load(tmp_path / "m")
    assert not classifier.tells_strangers
    assert "too few faces to tell strangers" in caplog.text


def test_embeddings_of_a_face_are_finite(model_dir, tmp_path):
    draw_people(tmp_path / "x.jpg", "anna", "ben", "cleo")
    (guess,) = FaceClassifier.load(model_dir).guess([tmp_path / "x.jpg"])
    assert len(guess.faces) == 3
    assert all(np.isclose(sum(face.scores.values()), 1, atol=1e-4) for face in guess.faces)
