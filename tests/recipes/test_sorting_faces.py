"""Photos of several people go to several folders, and come back."""

import threading

import pytest
from drawn_faces import draw_people, use_discs

from retrain.classifier import Guess
from retrain.errors import RetrainError
from retrain.face_classifier import FaceGuess, PhotoGuess
from retrain.options import SortOptions
from retrain.recipes.sorting import sort_dir, undo_sort
from retrain.recipes.watching import watch_dir

PHOTOS = {
    "couple.jpg": "anna 0.9, ben 0.8",
    "anna.jpg": "anna 0.7",
    "twins.jpg": "anna 0.6, anna 0.95",
    "street.jpg": "ben 0.9, unknown 0.4",
    "strangers.jpg": "unknown 0.4, unknown 0.3",
    "wall.jpg": "",
    "text.jpg": "error",
}


class FakeFaces:
    """Reads from a file's content who is on it."""

    labels = ("anna", "ben")

    def guess_files(self, paths):
        for path in paths:
            yield self._guess(path)

    def _guess(self, path):
        content = path.read_text()
        if content == "error":
            return PhotoGuess(str(path), error="not_an_image (the content is text/plain)")
        faces = []
        for name, confidence in (face.split() for face in filter(None, content.split(", "))):
            unknown, label = name == "unknown", "anna" if name == "unknown" else name
            faces.append(FaceGuess(str(path), label, float(confidence), {}, unknown, box=(0, 0, 9, 9)))
        return PhotoGuess(**vars(Guess(str(path))), faces=faces)


@pytest.fixture
def source(tmp_path):
    for name, content in PHOTOS.items():
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / name).write_text(content)
    (tmp_path / "source" / "couple.xmp").write_text("sidecar")
    return tmp_path / "source"


def sort(source, **options):
    return sort_dir(source, source.with_name("sorted"), SortOptions(faces=True, **options), FakeFaces())


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")


SORTED = [
    "_error/text.jpg", "_no_face/wall.jpg", "_unknown/strangers.jpg", "anna/anna.jpg", "anna/couple.jpg",
    "anna/couple.xmp", "anna/twins.jpg", "ben/couple.jpg", "ben/couple.xmp", "ben/street.jpg",
]  # fmt: skip


@pytest.mark.parametrize("mode", ["copy", "link"])
def test_photo_goes_to_everybody_known_on_it(source, mode):
    result = sort(source, mode=mode)
    sorted_ = source.with_name("sorted")
    assert files_in(sorted_) == SORTED
    assert result["sorted"] == {"anna": 3, "ben": 2}
    assert [result[name] for name in ("unknown", "ambiguous", "no_face", "errors")] == [1, 0, 1, 1]
    for person in ("anna", "ben"):
        assert (sorted_ / person / "couple.jpg").samefile(source / "couple.jpg") == (mode == "link")


@pytest.mark.parametrize("mode", ["copy", "link"])
def test_sorting_by_faces_is_undone_whole(source, mode):
    before = {name: (source / name).read_bytes() for name in files_in(source)}
    sort(source, mode=mode)
    assert undo_sort(source.with_name("sorted")) == {"restored": len(SORTED), "left": []}
    assert not source.with_name("sorted").exists()
    assert {name: (source / name).read_bytes() for name in files_in(source)} == before


def test_photos_sorted_by_faces_are_not_sorted_again(source):
    sort(source)
    (source / "new.jpg").write_text("ben 0.9")
    assert sort(source)["sorted"] == {"anna": 0, "ben": 1}
    assert files_in(source.with_name("sorted")) == sorted([*SORTED, "ben/new.jpg"])


def test_name_taken_in_one_folder_leaves_it_in_the_other(source):
    (source.with_name("sorted") / "ben").mkdir(parents=True)
    (source.with_name("sorted") / "ben" / "couple.jpg").write_text("mine")
    sort(source)
    assert (source.with_name("sorted") / "ben" / "couple.jpg").read_text() == "mine"
    assert {"anna/couple.jpg", "ben/couple-2.jpg", "ben/couple-2.xmp"} <= set(files_in(source.with_name("sorted")))


def test_flat_layout_names_everybody(source):
    sort(source, layout="flat")
    assert files_in(source.with_name("sorted")) == [
        "_error-text.jpg", "_no_face-wall.jpg", "_unknown-0.40000.jpg", "anna-0.70000.jpg", "anna-0.90000.jpg",
        "anna-0.90000.xmp", "anna-0.95000.jpg", "ben-0.80000.jpg", "ben-0.80000.xmp", "ben-0.90000.jpg",
    ]  # fmt: skip


def test_dry_run_tells_every_place(source):
    plan = sort(source, dry_run=True)["plan"]
    folder = source.with_name("sorted")
    assert sorted(row["destination"] for row in plan) == [str(folder / name) for name in SORTED]
    assert not folder.exists()


def test_photos_are_not_moved_to_several_places(source):
    with pytest.raises(RetrainError, match="cannot be moved") as raised:
        sort(source, mode="move")
    assert "--mode copy" in raised.value.hint


def test_what_arrives_is_not_sorted_by_faces(source):
    with pytest.raises(RetrainError, match="not by faces"):
        watch_dir(
            source, source.with_name("sorted"), SortOptions(faces=True), threading.Event(), classifier=FakeFaces()
        )


def test_crawled_photos_are_not_sorted_by_faces(source):
    source.with_name("manifest.jsonl").write_text("{}\n")
    with pytest.raises(RetrainError, match="crawled"):
        sort(source)
    assert sort(source, i_have_consent=True)["no_face"] == 1


def test_model_of_whole_pictures_sorts_no_faces(trained, tmp_path, monkeypatch):
    use_discs(monkeypatch)
    draw_people(tmp_path / "source" / "a.jpg", "anna")
    with pytest.raises(RetrainError, match="whole pictures"):
        sort_dir(tmp_path / "source", tmp_path / "sorted", SortOptions(model_dir=trained / "model", faces=True))
