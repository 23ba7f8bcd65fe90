import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import frontier
from benchmarks.common import Bench
from benchmarks.variants import kinds_of
from retrain.backbones import BACKBONES, load_backbone
from retrain.images import decode, read
from retrain.options import SampleOptions

ROOT = Path(__file__).parents[1]
STOPWATCH = ROOT / "benchmarks" / "stopwatch.py"


@pytest.fixture(scope="module")
def measured(sample, tmp_path_factory):
    """The frontier of a small grid on drawn pictures."""
    folder = tmp_path_factory.mktemp("frontier")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("RETRAIN_TEST_DATA", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setattr(frontier, "DRAWN", SampleOptions(per_class=6, size=96, seed=1))
        return frontier.measure(Bench(sample, folder, repeats=1), ["lite0", "lite0-flips", "lite0+lite1"])


def test_stopwatch_times_every_stage_of_training(data, tmp_path):
    command = [sys.executable, STOPWATCH, "train", data, "--json", "--model-dir", tmp_path / "model"]
    environment = {**os.environ, "STARTED": str(time.time())}
    output = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    stages = json.loads(output)["stages"]
    assert {"start-up, imports", "find", "load backbone", "embed", "search C", "fit", "save"} <= set(stages)
    assert all(seconds >= 0 for seconds in stages.values())


@pytest.mark.slow
def test_frontier_compares_every_variant_and_head(measured):
    rows = {row["what"]: row for row in measured["rows"]}
    assert list(rows) == ["lite0", "lite0-flips", "lite0+lite1", *frontier.HEADS]
    assert [row["preset"] for row in rows.values() if row.get("preset")] == ["fast", "good"]
    assert (rows["lite0"]["times fast"], rows["lite0"]["gain"]) == (1, "+0.0 ± 0.0")
    assert rows["lite0+lite1"]["times fast"] > 1
    assert {"drawn", "drawn, 10 a class"} <= rows["ridge"].keys()
    assert all(50 < row["mean %"] <= 100 for row in rows.values())


@pytest.mark.slow
def test_frontier_is_drawn_and_tabulated(measured, tmp_path):
    shutil.copy(ROOT / "docs" / "frontier.py", tmp_path)
    before, _, rest = (ROOT / "docs" / "frontier.md").read_text(encoding="utf-8").partition("<!-- table -->")
    (tmp_path / "frontier.md").write_text(f"{before}<!-- table -->{rest}", encoding="utf-8")
    (tmp_path / "result.json").write_text(json.dumps(measured))
    subprocess.run([sys.executable, tmp_path / "frontier.py", tmp_path / "result.json"], check=True)
    page = (tmp_path / "frontier.md").read_text(encoding="utf-8")
    assert page.startswith(before)
    assert page.endswith(rest.partition("<!-- end -->")[2])
    assert re.search(r"^\| lite0\+lite1 \*\*good\*\* \|", page, re.MULTILINE)
    picture = ElementTree.parse(tmp_path / "frontier.svg")  # noqa: S314 - made here
    assert len(picture.findall("{*}circle")) == 3


def test_frontier_is_of_what_nothing_else_beats():
    rows = [
        {"times fast": times, "mean %": accuracy, "frontier": ""}
        for times, accuracy in [(2, 91), (1, 90), (3, 91), (1, 89)]
    ]
    frontier.mark_frontier(rows)
    assert [bool(row["frontier"]) for row in rows] == [True, True, False, False]


def test_gain_is_counted_picture_by_picture():
    won = np.zeros((2, 100))
    assert frontier.interval_of_gain([won, won]) == "+0.0 ± 0.0"
    won[:, :10] = 1
    assert frontier.interval_of_gain([won]) == "+10.0 ± 5.9"


def test_plain_variant_embeds_as_the_backbone_does(picture):
    kinds, image, backbone = (
        kinds_of(["lite0", "lite0-flips"]),
        decode(read(picture)),
        load_backbone("efficientnet-lite0"),
    )
    pixels = backbone.to_input(image)
    expected = backbone.embed(np.stack([pixels, pixels[:, ::-1]]))
    np.testing.assert_array_equal(kinds["lite0"].make(image), expected[0])
    np.testing.assert_allclose(kinds["lite0-flips"].make(image), expected.mean(axis=0), rtol=1e-6)


@pytest.mark.tf
@pytest.mark.slow
def test_variant_may_have_another_size_and_further_layers(picture):
    image = decode(read(picture))
    for part, more in [("lite0-96", 0), ("lite0-96-layers", 80 + 112 + 192)]:
        (kind,) = kinds_of([part]).values()
        embedding = kind.make(image)
        assert embedding.shape == (kind.size,) == (BACKBONES["efficientnet-lite0"].embedding_size + more,)
        assert np.linalg.norm(embedding) > 0.1
