import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack

import pytest
from image_sites import BY, Bing, Google, INaturalist, Openverse, Site, Wikimedia, picture
from web import running, serving

import retrain.fetch
from retrain.dataset import find_dataset
from retrain.errors import RetrainError
from retrain.options import CrawlOptions, FetchOptions
from retrain.recipes import crawling
from retrain.recipes.crawling import crawl
from retrain.sources import SOURCES

FAST = FetchOptions(connect_s=1, read_s=1, total_s=2, tries=2, pause_s=0.01, max_wait_s=5, rates=((10_000, 1),))
OPENVERSE = CrawlOptions(sources=("openverse",), limit=10)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """No test waits for quotas that are the real sites'."""
    monkeypatch.setattr(retrain.fetch, "FetchOptions", lambda: FAST)
    for name, source in SOURCES.items():
        monkeypatch.setitem(SOURCES, name, source._replace(rates=(), rates_with_key=()))


@pytest.fixture
def site(monkeypatch):
    """site(Openverse, catalogue, …): a site that takes the place of the real one."""
    with ExitStack() as stack:

        def start(kind, catalogue, **how):
            server = stack.enter_context(running(kind(catalogue, **how)))
            monkeypatch.setenv(f"RETRAIN_{kind.__name__.upper()}_URL", server.base_url)
            return server

        yield start


def rows_of(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def names_of(folder):
    return sorted(row["id"] for row in rows_of(folder))


def ordinary(count, licence="by"):
    return [(f"d{number}", licence) for number in range(count)]


def test_pictures_come_with_all_that_is_known_of_them(site, tmp_path):
    site(Openverse, {"daisy": ordinary(6), "rose": [("r1", "cc0")]})
    result = crawl({"daisy": "daisy", "rose": "rose"}, tmp_path / "data", OPENVERSE)
    assert result["classes"]["daisy"] == {"pictures": 6, "new": 6, "refused": {}}
    rows = rows_of(tmp_path / "data")
    assert len(rows) == 7
    for row in rows:
        assert row["license"] in ("by", "cc0")
        assert all(row[name] for name in ("source", "license_url", "landing_url", "image_url", "retrieved_at", "query"))
        assert "creator" in row
        content = (tmp_path / "data" / row["file"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert (row["width"], row["height"], row["mime"]) == (224, 224, "image/jpeg")
    assert find_dataset(tmp_path / "data").classes == ["daisy", "rose"]


def test_limit_is_a_class_s_and_nothing_more_is_fetched(site, tmp_path):
    server = site(Openverse, {"daisy": ordinary(60)})
    result = crawl({"daisy": "daisy"}, tmp_path / "data", CrawlOptions(sources=("openverse",), limit=7))
    assert result["classes"]["daisy"]["pictures"] == 7
    assert len(server.paths("/photos")) == 7


def test_forbidden_licences_are_never_kept(site, tmp_path):
    planted = [(f"planted-{licence}", licence) for licence in ("by-nc", "by-nd", "by-nc-sa", None)]
    server = site(Openverse, {"daisy": [*planted, *ordinary(3, "by-sa")]})
    observations = [[("i1", "cc-by"), ("null", None), ("nc", "cc-by-nc")]]
    second = site(INaturalist, {"daisy": observations})
    options = CrawlOptions(sources=("openverse", "inaturalist"), limit=10)
    result = crawl({"daisy": "daisy"}, tmp_path / "data", options)
    assert Counter(row["license"] for row in rows_of(tmp_path / "data")) == {"by-sa": 3, "by": 1}
    assert result["classes"]["daisy"]["refused"] == {"licence": 6}
    assert not any("planted" in path for path in server.paths("/photos"))
    assert second.paths("/photos") == ["/photos/i1/medium.jpg"]


def test_any_licence_says_what_is_unknown(site, tmp_path, caplog):
    site(Openverse, {"daisy": [("planted-1", None), ("nc", "by-nc")]})
    options = CrawlOptions(sources=("openverse",), limit=5, licence="any")
    crawl({"daisy": "daisy"}, tmp_path / "data", options)
    unknown, known = sorted(rows_of(tmp_path / "data"), key=lambda row: row["id"], reverse=True)
    assert (unknown["license"], unknown["license_text"]) == (None, "unknown, not for redistribution")
    assert known["license"] == "by-nc"
    assert "may not be handed on" in caplog.text


def test_pictures_of_engines_say_that_their_licence_is_unknown(site, tmp_path, caplog):
    first, second = site(Google, {"daisy": ["g1", "g2"]}), site(Bing, {"daisy": ["b1"]})
    options = CrawlOptions(sources=("google", "bing"), licence="any", limit=9)
    crawl({"daisy": "daisy"}, tmp_path / "data", options)
    rows = rows_of(tmp_path / "data")
    assert Counter(row["source"] for row in rows) == {"google": 2, "bing": 1}
    assert {(row["license"], row["license_url"], row["license_text"]) for row in rows} == {
        (None, None, "unknown, not for redistribution")
    }
    assert caplog.text.count("may forbid to ask it by a program") == 2
    agents = {asked.headers["user-agent"] for server in (first, second) for asked in server.asked}
    assert agents == {retrain.fetch.user_agent()}  # its own requests would say otherwise


@pytest.mark.parametrize("licence", ["safe", "commercial"])
def test_engines_are_not_asked_for_licensed_pictures(site, tmp_path, licence):
    server = site(Google, {"daisy": ["g1"]})
    with pytest.raises(RetrainError, match="tells no licences"):
        crawl({"daisy": "daisy"}, tmp_path / "data", CrawlOptions(sources=("google",), licence=licence))
    assert not server.asked
    assert not (tmp_path / "data").exists()


def test_one_address_from_two_sources_is_fetched_once(site, tmp_path, monkeypatch):
    server, second = site(Openverse, {"daisy": ordinary(2)}), site(Wikimedia, {"daisy": [("d0", "cc-by-4.0", BY)]})
    monkeypatch.setattr(second, "photo_url", server.photo_url)
    for _ in range(2):
        result = crawl({"daisy": "daisy"}, tmp_path / "data", CrawlOptions(limit=10))
    assert result["classes"]["daisy"]["pictures"] == 2
    assert len(server.paths("/photos")) == 2


@pytest.mark.parametrize(("name", "reason"), [
    ("missing-1", "status"), ("cut-1", "broken_off"), ("broken-1", "truncated"), ("html-1", "not_an_image"),
    ("private-1", "refused_address"), ("noai-1", "opted_out"), ("small-1", "too_small"), ("slow-1", "too_slow"),
    ("tiny-1", "too_small"),
])  # fmt: skip
def test_refused_picture_is_told_and_the_others_stay(site, tmp_path, name, reason):
    with serving({}) as private:
        site(Openverse, {"daisy": [(name, "by"), *ordinary(2)]}, private=private.url)
        result = crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
        assert not private.asked
    assert result["classes"]["daisy"] == {"pictures": 2, "new": 2, "refused": {reason: 1}}
    assert len(list((tmp_path / "data" / "daisy").iterdir())) == 2


def test_name_follows_the_content(site, tmp_path):
    site(Openverse, {"daisy": [("webp-1", "by"), ("moved-1", "by")]})
    crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    names = sorted(path.name for path in (tmp_path / "data" / "daisy").iterdir())
    assert names == ["openverse-moved-1.jpg", "openverse-webp-1.webp"]


def test_copies_are_dropped_as_they_come(site, tmp_path):
    site(Openverse, {"daisy": [("twin-1", "by"), ("twin-2", "by"), ("again-1", "by"), ("again-2", "by")]})
    result = crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    assert result["classes"]["daisy"]["refused"] == {"same_bytes": 1, "copy": 1}
    assert names_of(tmp_path / "data") == ["again-1", "twin-1"]


def test_copies_of_the_user_s_own_pictures_are_dropped(site, tmp_path):
    (tmp_path / "data" / "flowers").mkdir(parents=True)
    (tmp_path / "data" / "flowers" / "mine.jpg").write_bytes(picture("twin"))
    (tmp_path / "data" / "flowers" / "mine.png").write_bytes(picture("again", kind="PNG"))
    site(Openverse, {"daisy": [("twin-1", "by"), ("again-1", "by"), ("d1", "by")]})
    result = crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    assert result["classes"]["daisy"]["refused"] == {"same_bytes": 1, "copy": 1}


def test_second_crawl_fetches_what_is_missing_and_nothing_twice(site, tmp_path):
    troubles = [(name, "by") for name in ("missing-1", "html-1", "noai-1", "small-1", "twin-1", "twin-2")]
    server = site(Openverse, {"daisy": [*troubles, *ordinary(30)]})
    for limit in (5, 5, 12):
        result = crawl({"daisy": "daisy"}, tmp_path / "data", CrawlOptions(sources=("openverse",), limit=limit))
    assert result["classes"]["daisy"]["pictures"] == 12
    assert max(Counter(server.paths("/photos")).values()) == 1


def test_picture_that_the_user_took_out_does_not_come_back(site, tmp_path):
    site(Openverse, {"daisy": ordinary(4)})
    crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    next((tmp_path / "data" / "daisy").iterdir()).unlink()
    result = crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    assert result["classes"]["daisy"] == {"pictures": 3, "new": 0, "refused": {"there_already": 4}}


def test_sources_and_queries_take_turns(site, tmp_path):
    site(Openverse, {"bellis perennis": ordinary(20), "daisy flower": [(f"f{number}", "by") for number in range(20)]})
    site(Wikimedia, {"bellis perennis": [(f"w{number}", "cc-by-4.0", BY) for number in range(20)]})
    options = CrawlOptions(limit=12, sources=("openverse", "wikimedia"))
    crawl({"daisy": ["bellis perennis", "daisy flower"]}, tmp_path / "data", options)
    assert Counter((row["source"], row["query"]) for row in rows_of(tmp_path / "data")) == {
        ("openverse", "bellis perennis"): 4, ("openverse", "daisy flower"): 4, ("wikimedia", "bellis perennis"): 4,
    }  # fmt: skip
    assert {row["label"] for row in rows_of(tmp_path / "data")} == {"daisy"}


def test_max_per_source(site, tmp_path):
    server = site(Openverse, {"daisy": ordinary(20)})
    site(Wikimedia, {"daisy": [(f"w{number}", "cc-by-4.0", BY) for number in range(20)]})
    options = CrawlOptions(limit=12, max_per_source=3, sources=("openverse", "wikimedia"))
    crawl({"daisy": "daisy"}, tmp_path / "data", options)
    assert Counter(row["source"] for row in rows_of(tmp_path / "data")) == {"openverse": 3, "wikimedia": 3}
    assert len(server.paths("/photos")) == 3


def test_source_that_fails_does_not_stop_the_others(site, tmp_path, monkeypatch):
    site(Openverse, {"daisy": ordinary(3)})
    with serving({"": lambda handler, _: handler.answer("<html>Sorry</html>")}) as broken:
        monkeypatch.setenv("RETRAIN_WIKIMEDIA_URL", broken.url)
        result = crawl({"daisy": "daisy"}, tmp_path / "data", CrawlOptions(limit=10))
    assert result["classes"]["daisy"]["pictures"] == 3
    assert [(row["source"], row["query"]) for row in result["failures"]] == [("wikimedia", "daisy")]


@pytest.mark.parametrize("sources", [*([name] for name in SOURCES), ["openverse", "wikimedia"], ["urls", "flickr"]])
@pytest.mark.parametrize("contact", ["", "tests@example.org"])
def test_without_network_it_says_what_can_be_done(tmp_path, monkeypatch, sources, contact):
    monkeypatch.setenv("RETRAIN_CONTACT", contact)
    monkeypatch.setenv("RETRAIN_FLICKR_KEY", "sesame")
    for name in SOURCES:
        monkeypatch.setenv(f"RETRAIN_{name.upper()}_URL", "http://no-such-host.invalid/")
    (tmp_path / "daisy.txt").write_text("1.jpg\n2.jpg\n")
    options = CrawlOptions(sources=tuple(sources), licence="any")
    if sources == ["wikimedia"] and not contact:
        (failure,) = crawl({"daisy": "daisy"}, tmp_path / "data", options)["failures"]
        assert "RETRAIN_CONTACT" in failure["reason"]
        return
    with pytest.raises(RetrainError, match="no network") as caught:
        crawl({"daisy": str(tmp_path / "daisy")}, tmp_path / "data", options)
    assert "--source urls" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_dead_hosts_of_some_pictures_are_no_missing_network(site, tmp_path, monkeypatch):
    server = site(Openverse, {"daisy": ordinary(2)})
    monkeypatch.setattr(server, "photo_url", lambda name: f"http://no-such-host.invalid/{name}.jpg")
    result = crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    assert result["classes"]["daisy"]["refused"] == {"unreachable": 2}


@pytest.mark.parametrize(("query", "told"), [
    ("Ada Lovelace", True), ("Émile Zola", True), ("Ludwig van Beethoven", True), ("Category:Ada_Lovelace", True),
    ("daisy", False), ("Bellis perennis", False), ("red rose", False), ("", False), ("Category:Daisies", False),
])  # fmt: skip
def test_what_may_be_a_person(query, told):
    assert crawling._may_be_a_person(query) is told


def test_addresses_of_the_user_s_own(tmp_path, monkeypatch):
    with running(Site()) as server:
        monkeypatch.setenv("RETRAIN_URLS_URL", f"{server.url}/photos/")
        (tmp_path / "list.txt").write_text(
            f"one.jpg\nhttp://127.0.0.1:9/two.jpg\nthree.jpg\tcc-by\tAnn\n{server.url}/photos/four.jpg\n"
        )
        options = CrawlOptions(sources=("urls",), licence="any", limit=9)
        result = crawl({"daisy": str(tmp_path / "list.txt")}, tmp_path / "data", options)
        assert result["classes"]["daisy"] == {"pictures": 3, "new": 3, "refused": {"refused_address": 1}}
    assert sorted(row["license_text"] for row in rows_of(tmp_path / "data")) == [
        "cc-by",
        crawling.UNKNOWN,
        crawling.UNKNOWN,
    ]


def test_keyword_cannot_lead_out_of_the_folder(site, tmp_path):
    site(Openverse, {"../../evil": ordinary(1)})
    crawl({"../../evil": "../../evil"}, tmp_path / "data", OPENVERSE)
    (row,) = rows_of(tmp_path / "data")
    assert (tmp_path / "data" / row["file"]).resolve().is_relative_to(tmp_path / "data")


def test_authors_are_named_whatever_they_write(site, tmp_path, monkeypatch):
    server = site(Openverse, {"daisy": ordinary(1)})
    row = server.row
    evil = "<script>x</script> [a](javascript:b)\n# Title"
    monkeypatch.setattr(server, "row", lambda *how: row(*how) | {
        "attribution": evil, "foreign_landing_url": "javascript:alert(1)",
    })  # fmt: skip
    crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    (line,) = [line for line in (tmp_path / "data" / "ATTRIBUTION.md").read_text().splitlines() if "daisy" in line]
    assert r"\<script\>" in line
    assert r"\[a\]\(javascript:b\) \# Title" in line
    assert "javascript:alert" not in line
    assert "<https://creativecommons.org/licenses/by/4.0/>" in line


def test_attribution_of_somebody_else_s_making_stays(site, tmp_path):
    site(Openverse, {"daisy": ordinary(1)})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ATTRIBUTION.md").write_text("mine")
    crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    assert (tmp_path / "data" / "ATTRIBUTION.md").read_text() == "mine"


@pytest.mark.parametrize("content", ['{"file": "a/b"}\n', "no json\n", "[1]\n", '{"file": "../x"}\n'])
def test_manifest_of_somebody_else_s_making_is_refused(tmp_path, content):
    (tmp_path / "manifest.jsonl").write_text(content)
    with pytest.raises(RetrainError, match="not written by retrain crawl"):
        crawl({"daisy": "daisy"}, tmp_path, OPENVERSE)
    assert (tmp_path / "manifest.jsonl").read_text() == content


def test_file_in_the_way_is_not_overwritten(site, tmp_path):
    site(Openverse, {"daisy": ordinary(1)})
    (tmp_path / "data" / "daisy").mkdir(parents=True)
    (tmp_path / "data" / "daisy" / "openverse-d0.jpg").write_text("mine")
    crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    assert (tmp_path / "data" / "daisy" / "openverse-d0.jpg").read_text() == "mine"
    assert rows_of(tmp_path / "data")[0]["file"] == "daisy/openverse-d0-2.jpg"


@pytest.mark.parametrize("moment", ["_append", "os.link"])
def test_kill_beside_the_line_loses_and_fetches_nothing(site, tmp_path, monkeypatch, moment):
    """Stopped right before the line is written, or right before the file gets its place."""
    server = site(Openverse, {"daisy": ordinary(3)})

    def stop(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"retrain.recipes.crawling.{moment}", stop)
        crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    assert names_of(tmp_path / "data") == ["d0", "d1", "d2"]
    assert all((tmp_path / "data" / row["file"]).exists() for row in rows_of(tmp_path / "data"))
    fetched = Counter(server.paths("/photos"))
    assert fetched["/photos/d0.jpg"] == 1


def test_torn_line_is_taken_away(site, tmp_path):
    server = site(Openverse, {"daisy": ordinary(3)})
    crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    with open(tmp_path / "data" / "manifest.jsonl", "a") as file:
        file.write('{"file": "dai')
    crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    assert len(rows_of(tmp_path / "data")) == 3
    assert len(server.paths("/photos")) == 3


def test_second_crawl_at_once_is_refused(site, tmp_path, monkeypatch):
    site(Openverse, {"daisy": ordinary(3)})
    refused = []

    def again(self, *_):
        with pytest.raises(RetrainError, match="another retrain crawl is at work"):
            crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
        refused.append(True)

    monkeypatch.setattr(crawling._Class, "fill", again)
    crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    assert refused == [True]


KILLS, MANY = 10, 300
RUN = f"""
import os, sys
from retrain import fetch, sources
from retrain.options import CrawlOptions, FetchOptions
from retrain.recipes.crawling import crawl

log, read = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT), fetch._read

def read_and_tell(response, url, *how):
    body = read(response, url, *how)
    os.write(log, (url + chr(10)).encode())
    return body

fetch._read = read_and_tell
fetch.FetchOptions = lambda: FetchOptions(rates=((10000, 1),))
sources.SOURCES["openverse"] = sources.SOURCES["openverse"]._replace(rates=())
crawl({{"daisy": "daisy"}}, sys.argv[1], CrawlOptions(sources=("openverse",), limit={MANY}))
"""


@pytest.mark.slow
def test_ten_kills_lose_nothing_and_fetch_nothing_twice_that_was_here(site, tmp_path):
    """What a kill cuts off on its way has to come again; what has come as a whole must not."""
    for number in range(MANY):
        picture(f"d{number}")  # drawn now, so that the site answers at once
    server = site(Openverse, {"daisy": ordinary(MANY)})
    chance, data, arrived = random.Random(0), tmp_path / "data", tmp_path / "arrived"
    command, amid = [sys.executable, "-c", RUN, str(data), str(arrived)], 0
    for _ in range(KILLS):
        asked = len(server.paths("/photos"))
        process = subprocess.Popen(command)
        while len(server.paths("/photos")) == asked and process.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.2))
        amid += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True)
    assert amid > KILLS / 2
    assert names_of(data) == sorted(f"d{number}" for number in range(MANY))
    assert {row["file"] for row in rows_of(data)} == {f"daisy/{name}" for name in os.listdir(data / "daisy")}
    here = Counter(url for url in arrived.read_text().split() if "/photos/" in url)
    assert max(here.values()) == 1
    assert len(server.paths("/photos")) - MANY <= KILLS * retrain.fetch.CONNECTIONS


@pytest.mark.parametrize("length", ["whole", "short", "untold"])
def test_download_that_a_kill_has_interrupted_is_taken_if_it_is_whole(site, tmp_path, length):
    server = site(Openverse, {"daisy": ordinary(2)})
    own, content = tmp_path / "data" / ".retrain-crawl", picture("d0")
    own.mkdir(parents=True)
    name = hashlib.sha256(b"openverse/d0").hexdigest()[:32]
    told = f".{len(content)}" if length != "untold" else ".None"
    (own / f"{name}{told}.part").write_bytes(content[:-1] if length == "short" else content)
    crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
    assert Counter(server.paths("/photos"))["/photos/d0.jpg"] == (0 if length == "whole" else 1)
    assert names_of(tmp_path / "data") == ["d0", "d1"]
    assert not list(own.glob("*.part"))


def test_full_disk_is_told_as_such(site, tmp_path, monkeypatch):
    site(Openverse, {"daisy": ordinary(2)})
    real = open

    def full(path, *how):
        if str(path).endswith(".part") and how == ("wb",):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *how)

    monkeypatch.setattr(crawling, "open", full, raising=False)
    with pytest.raises(RetrainError, match="No space left"):
        crawl({"daisy": "daisy"}, tmp_path / "data", OPENVERSE)
