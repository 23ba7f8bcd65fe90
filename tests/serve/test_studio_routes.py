"""What the page of Studio asks for."""

import io
import json
import shutil
import threading
import time
import zipfile

import pytest
import requests
from PIL import Image

from retrain import TrainOptions, train
from retrain.dataset import walk

PICTURES_A_CLASS = 24


class Client:
    """Asks a server as the page does."""

    def __init__(self, address):
        self.address = address

    def __call__(self, method, path, status=200, **options):
        answer = requests.request(method, f"{self.address}/studio{path}", timeout=60, **options)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.headers["content-type"] == "application/json" else answer

    def state(self):
        return self("GET", "/state")

    def ids(self):
        return {each["name"]: each["id"] for each in self.state()["classes"]}

    def pictures(self, name):
        return self("GET", f"/classes/{self.ids()[name]}/pictures")["pictures"]

    def job(self, path, **asked):
        """The job that such a request starts, when it has ended."""
        job = self("POST", path, 202, json=asked)
        for _ in range(1200):
            job = self.state()["job"]
            if job["state"] != "running":
                return job
            time.sleep(0.05)
        raise AssertionError(job)


@pytest.fixture
def studio(start, data, tmp_path):
    """A Studio with the classes fish and tree."""
    shutil.move(data, tmp_path / "tf_files" / "data")
    return Client(start())


@pytest.fixture
def empty(start):
    return Client(start())


def test_first_look_shows_nothing_yet(empty):
    state = empty.state()
    assert (state["classes"], state["model"], state["job"], state["undo"]) == ([], None, None, None)
    assert state["limits"] == {"max_bytes": 64_000_000, "max_images": 64}


def test_whole_way_from_nothing_to_a_guess(empty, sample):
    for name in ("fish", "tree"):
        number = empty("POST", "/classes", 201, json={"name": name})["id"]
        files = [("file", path.open("rb")) for path in sorted((sample / name).iterdir())]
        assert len(empty("POST", f"/classes/{number}/pictures", files=files)["added"]) == 24
    assert [(each["name"], each["pictures"], len(each["cover"])) for each in empty.state()["classes"]] == [
        ("fish", 24, 4),
        ("tree", 24, 4),
    ]
    job = empty.job("/train", quality="fast")
    assert (job["kind"], job["state"], job["error"]) == ("train", "done", None)
    assert job["result"]["images"] == 48
    model = empty.state()["model"]
    assert (model["version"], model["labels"], model["stale"]) == (1, ["fish", "tree"], False)
    picture = next((sample / "tree").iterdir()).open("rb")
    answer = requests.post(f"{empty.address}/guess?explain=1", files={"file": picture}, timeout=60).json()
    assert answer["guesses"][0]["label"] == "tree"
    assert answer["guesses"][0]["heat_map"]


def test_correction_makes_the_model_stale_until_it_learns_again(studio, sample):
    studio.job("/train")
    picture = next((sample / "sun").iterdir()).open("rb")
    studio("POST", f"/classes/{studio.ids()['tree']}/pictures", files={"file": picture})
    assert studio.state()["model"]["stale"]
    job = studio.job("/train")
    assert job["result"]["images"] == 49
    assert not studio.state()["model"]["stale"]
    assert studio.state()["model"]["version"] == 2


def test_pictures_come_in_pages_and_as_small_jpegs(studio):
    number = studio.ids()["fish"]
    page = studio("GET", f"/classes/{number}/pictures?start=20&count=3")
    assert page["total"] == 24
    assert [each["name"] for each in page["pictures"]] == ["fish-020.jpg", "fish-021.jpg", "fish-022.jpg"]
    answer = studio("GET", f"/pictures/{page['pictures'][0]['id']}?side=32")
    assert answer.headers["content-type"] == "image/jpeg"
    assert max(Image.open(io.BytesIO(answer.content)).size) == 32


def test_file_that_is_no_picture_has_no_thumbnail(studio, tmp_path):
    (tmp_path / "tf_files" / "data" / "fish" / "a.txt").write_text("none")
    number = next(each["id"] for each in studio.pictures("fish") if each["name"] == "a.txt")
    assert "not_an_image" in studio("GET", f"/pictures/{number}", 415)["error"]


def test_changes_are_undone_one_by_one(studio, tmp_path):
    data = tmp_path / "tf_files" / "data"
    before = list(walk(data))
    studio("POST", f"/classes/{studio.ids()['fish']}", json={"name": "salmon"})
    first, second = (each["id"] for each in studio.pictures("salmon")[:2])
    assert studio("POST", "/pictures/move", json={"pictures": [first], "class": studio.ids()["tree"]}) == {"moved": 1}
    assert studio("POST", "/pictures/move", json={"pictures": [second], "class": None}) == {"moved": 1}
    assert studio("DELETE", f"/classes/{studio.ids()['tree']}") == {"moved": 25}
    undone = [studio("POST", "/undo")["undone"] for _ in range(4)]
    assert undone == ["tree taken out", "1 picture taken out", "1 picture moved to tree", "fish renamed to salmon"]
    assert list(walk(data)) == before
    assert "nothing to undo" in studio("POST", "/undo", 409)["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/classes", {"name": "fish"}, 409),
        ("POST", "/classes", {"name": "  "}, 422),
        ("POST", "/classes", {}, 400),
        ("POST", "/classes/0123", {"name": "x"}, 404),
        ("DELETE", "/classes/..%2f..", None, 404),
        ("GET", "/classes/nothing/pictures", None, 404),
        ("GET", "/pictures/nothing", None, 404),
        ("POST", "/pictures/move", {"pictures": ["nothing"], "class": None}, 404),
        ("POST", "/pictures/move", {"pictures": [], "class": None}, 400),
        ("POST", "/sort", {"folder": "/etc"}, 404),
        ("POST", "/exports", {"format": "../x"}, 400),
        ("GET", "/exports/passwd", None, 404),
        ("GET", "/exports/tflite", None, 404),
        ("POST", "/train", {"quality": "worst"}, 400),
        ("POST", "/report", None, 404),
        ("GET", "/report/guessed", None, 404),
    ],
)
def test_what_cannot_be_is_a_clear_error(studio, method, path, body, status):
    assert studio(method, path, status, json=body)["error"]


def test_training_that_cannot_be_tells_why(empty):
    job = empty.job("/train")
    assert job["state"] == "failed"
    assert "class folders" in job["error"] or "no folder" in job["error"]


def test_events_tell_of_a_job_and_of_changes(studio):
    seen = []
    with requests.get(f"{studio.address}/studio/events", stream=True, timeout=60) as stream:

        def listen():
            for line in stream.iter_lines():
                seen.append(json.loads(line))
                if seen[-1]["event"] == "job" and seen[-1]["job"]["state"] == "done":
                    return

        listener = threading.Thread(target=listen)
        listener.start()
        studio("POST", "/classes", 201, json={"name": "sun"})
        studio.job("/train")
        listener.join(30)
    assert seen[0] == {"event": "state"}
    jobs = [each["job"] for each in seen if each["event"] == "job"]
    assert jobs[0]["state"] == "running"
    assert {"Embedding", "Fitting", "Judging"} <= {each["stage"] for each in jobs}
    assert jobs[-1]["result"]["images"] == 48


def test_one_job_at_a_time_and_it_can_be_stopped(studio, monkeypatch):
    from retrain import progress
    from retrain.serve import workshop

    begun, go_on = threading.Event(), threading.Event()

    def slow(*_):
        begun.set()
        go_on.wait(30)
        return list(progress.track(range(9), "Waiting", 9))

    monkeypatch.setattr(workshop, "train", slow)
    studio("POST", "/train", 202, json={})
    begun.wait(30)
    assert "another job runs" in studio("POST", "/train", 409, json={})["error"]
    studio("POST", "/job/stop")
    go_on.set()
    for _ in range(600):
        if studio.state()["job"]["state"] != "running":
            break
        time.sleep(0.05)
    assert studio.state()["job"]["state"] == "stopped"
    assert studio.state()["model"] is None


def test_suspects_go_by_ids(studio, tmp_path):
    data = tmp_path / "tf_files" / "data"
    shutil.copy(data / "fish" / "fish-000.jpg", data / "fish" / "copy.jpg")
    findings = studio.job("/suspects")["result"]["findings"]
    copies = next(each for each in findings if each["check"] == "identical")
    names = {each["id"]: each["name"] for each in studio.pictures("fish")}
    assert {names[number] for number in copies["pictures"]} == {"fish-000.jpg", "copy.jpg"}
    assert copies["keep"] in copies["pictures"]
    studio(
        "POST",
        "/pictures/move",
        json={"pictures": [each for each in copies["pictures"] if each != copies["keep"]], "class": None},
    )
    assert len(studio.pictures("fish")) == 24


def test_folder_is_sorted_after_a_look_and_back(studio, sample, tmp_path):
    studio.job("/train")
    holiday = tmp_path / "tf_files" / "holiday"
    holiday.mkdir()
    for name in ("fish", "tree"):
        shutil.copy(sample / name / f"{name}-000.jpg", holiday)
    (folder,) = studio.state()["folders"]
    assert folder["name"] == "holiday"
    seen = studio.job("/sort", folder=folder["id"], dry_run=True)["result"]
    assert {row["from"] for row in seen["plan"]} == {"fish-000.jpg", "tree-000.jpg"}
    assert not (tmp_path / "tf_files" / "sorted").exists()
    result = studio.job("/sort", folder=folder["id"], dry_run=False, mode="move")["result"]
    assert sum(result["sorted"].values()) + result["unknown"] == 2
    assert list(holiday.iterdir()) == []
    assert studio.state()["undo"] == "sorted into holiday"
    studio("POST", "/undo")
    assert len(list(holiday.iterdir())) == 2


def test_only_named_folders_can_be_sorted(start, data, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "tf_files").mkdir()
    (tmp_path / "tf_files" / "link").symlink_to(tmp_path / "secret")
    assert Client(start(data=data)).state()["folders"] == []
    other = tmp_path / "other"
    shutil.copytree(data, other)
    named = Client(start(data=other, allow=(str(tmp_path / "secret"),)))
    assert [each["name"] for each in named.state()["folders"]] == ["secret"]


def test_export_is_downloaded_as_a_zip(studio):
    studio.job("/train")
    assert studio.job("/exports", format="tflite-int8")["state"] == "done"
    answer = studio("GET", "/exports/tflite-int8")
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert {"tflite-int8/model.tflite", "tflite-int8/README.md", "tflite-int8/labels.txt"} <= set(names)


def test_report_opens_once_with_a_ticket(studio):
    studio.job("/train")
    address = studio("POST", "/report")["address"]
    answer = requests.get(studio.address + address, timeout=20)
    assert answer.text.startswith("<!doctype html>") or "<html" in answer.text
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert requests.get(studio.address + address, timeout=20).status_code == 404


def test_faces_are_shown_nowhere(studio, tmp_path):
    studio.job("/train")
    assert studio.state()["report"]
    address = studio("POST", "/report")["address"]
    crop = tmp_path / "tf_files" / "faces" / "anna" / "0.jpg"
    crop.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(crop)
    # A model that this server does not take: of faces, to it.
    model = tmp_path / "tf_files" / "model" / "model.json"
    text = model.read_text().replace('"format_version": 2', '"format_version": 4, "faces": "otherwise"')
    model.unlink()
    model.write_text(text)
    state = studio.state()
    assert (state["folders"], state["report"]) == ([], False)
    studio("POST", "/report", 404)
    assert requests.get(studio.address + address, timeout=20).status_code == 404


def test_token_is_needed(start, data):
    address = start(data=data, token="sesame")
    for method, path in [("GET", "state"), ("GET", "events"), ("POST", "undo"), ("POST", "report")]:
        assert requests.request(method, f"{address}/studio/{path}", timeout=20).status_code == 401


def test_data_that_is_split_is_told_of(start, data):
    for part in ("train", "test"):
        shutil.copytree(data / "fish", data / part / "fish")
    answer = requests.get(f"{start(data=data)}/studio/state", timeout=20)
    assert (answer.status_code, "is split" in answer.json()["error"]) == (422, True)


def test_second_server_of_the_same_data_serves_all_but_studio(start, data):
    first, second = start(data=data), start(data=data)
    assert requests.get(f"{first}/studio/state", timeout=20).status_code == 200
    assert "another retrain serve" in requests.get(f"{second}/studio/state", timeout=20).json()["error"]
    assert requests.get(f"{second}/health", timeout=20).status_code == 200


def test_model_of_elsewhere_is_stale(start, trained, data, tmp_path):
    train(data, TrainOptions(report=False, model_dir=tmp_path / "model"))
    assert not Client(start(data=data, model_dir=tmp_path / "model")).state()["model"]["stale"]
