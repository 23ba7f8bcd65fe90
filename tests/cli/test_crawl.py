import json

import pytest
from image_sites import Flickr, Openverse, Site
from test_cli import is_one_clear_error
from web import running, serving

from retrain.sources import SOURCES


@pytest.fixture(autouse=True)
def site(monkeypatch):
    """Openverse with three pictures of each of some words, one of them without a good licence."""
    words = "daisy", "bellis", "rose", "Ada Lovelace"
    rows = {word: [(f"{word}{number}".replace(" ", ""), "by") for number in range(2)] for word in words}
    with running(Openverse({word: [*rows[word], (f"planted-{word[:3]}", "by-nc")] for word in rows})) as server:
        monkeypatch.setenv("RETRAIN_OPENVERSE_URL", server.base_url)
        yield server


def test_crawl_prints_what_came_and_what_was_refused(run, tmp_path):
    code, out, err = run("crawl", "daisy", "rose", "--source", "openverse", "--out", tmp_path / "data")
    assert code == 0, err
    assert out.decode().splitlines()[:3] == [
        "daisy: 2 pictures, 2 of them new",
        "       1 refused: their licence does not allow it, or is unknown",
        "rose: 2 pictures, 2 of them new",
    ]
    assert out.decode().splitlines()[-1].startswith("Next: ")
    assert len(list((tmp_path / "data" / "rose").iterdir())) == 2


def test_source_that_is_left_out_without_a_contact_is_named_and_no_error(run, tmp_path, monkeypatch):
    monkeypatch.delenv("RETRAIN_CONTACT")
    code, out, err = run("crawl", " daisy ", "--out", tmp_path / "data")
    assert code == 0
    assert out.startswith(b"daisy: 2 pictures, 2 of them new")
    assert "RETRAIN_CONTACT=" in err


def test_crawl_json_is_one_object(run, tmp_path):
    code, out, _ = run("crawl", "daisy", "--source", "openverse", "--out", tmp_path / "data", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["classes"]["daisy"]["refused"] == {"licence": 1}
    assert {"classes", "failures", "manifest"} == result.keys()


def test_words_may_come_from_a_file_and_several_words_make_a_class(run, tmp_path):
    (tmp_path / "words.txt").write_bytes(b"\xef\xbb\xbfrose\r\n\r\n  # not this one\n")
    code, _, err = run(
        "crawl",
        "--query-list",
        tmp_path / "words.txt",
        "--class",
        "flower=daisy",
        "--class",
        "flower= bellis,",
        "--source",
        "openverse",
    )
    assert code == 0, err
    data = tmp_path / "tf_files" / "data"
    assert {name: len(list((data / name).iterdir())) for name in ("rose", "flower")} == {"rose": 2, "flower": 4}


def test_file_of_addresses_names_its_class(run, tmp_path, monkeypatch):
    (tmp_path / "here" / "daisies.txt").write_text("one.jpg\ntwo.jpg\n")
    with running(Site()) as server:
        monkeypatch.setenv("RETRAIN_URLS_URL", f"{server.url}/photos/")
        code, out, err = run("crawl", "daisies.txt", "--source", "urls", "--license", "any", "--out", "data")
    assert code == 0, err
    assert out.startswith(b"daisies: 2 pictures")


def test_a_person_s_name_brings_a_word_on_consent(run, tmp_path):
    _, _, err = run("crawl", "Ada Lovelace", "--source", "openverse", "--out", tmp_path / "data")
    assert "not the person's consent" in err
    _, _, err = run("crawl", "daisy", "--source", "openverse", "--out", tmp_path / "data")
    assert "consent" not in err


def test_failed_source_is_told_and_exits_with_3(run, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRAIN_FLICKR_KEY", "wrong-key")
    with running(Flickr({})) as server:
        monkeypatch.setenv("RETRAIN_FLICKR_URL", server.base_url)
        code, out, err = run("crawl", "daisy", "--source", "openverse,flickr", "--out", tmp_path / "data")
    assert code == 3
    assert "Invalid API Key" in err
    assert "wrong-key" not in err + out.decode()


def test_strangers_words_give_the_terminal_no_orders(run, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRAIN_FLICKR_KEY", "sesame")
    said = {"stat": "fail", "code": 1, "message": "\x1b[2Jgone"}
    with serving({"": lambda handler, _: handler.answer(said)}) as server:
        monkeypatch.setenv("RETRAIN_FLICKR_URL", server.url)
        code, _, err = run("crawl", "daisy", "--source", "flickr", "--out", tmp_path / "data")
    assert code == 3
    assert "?[2Jgone" in err


def test_keys_stay_out_of_all_that_is_written(run, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRAIN_OPENVERSE_KEY", "me:open-sesame")
    for keys in ({"me": "open-sesame"}, {}):
        with running(Openverse({"daisy": [("d1", "by"), ("d2", "by")]}, keys)) as server:
            monkeypatch.setenv("RETRAIN_OPENVERSE_URL", server.base_url)
            ended = run("--debug", "crawl", "daisy", "--source", "openverse", "--out", tmp_path / "data", "--json")
        assert ended[0] == (0 if keys else 3)
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        for text in (ended[1], ended[2].encode(), *written):
            assert b"sesame" not in text
            assert b"token-0" not in text


def test_engines_want_license_any(run, tmp_path):
    ended = run("crawl", "daisy", "--source", "bing", "--out", tmp_path / "data")
    assert is_one_clear_error(ended, "tells no licences")
    assert "--license any" in ended[2]


def test_help_names_every_source(run):
    _, out, _ = run("crawl", "--help")
    assert all(name in out.decode() for name in SOURCES)


def test_without_network_it_says_so_in_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRAIN_OPENVERSE_URL", "http://no-such-host.invalid/")
    ended = run("crawl", "daisy", "--source", "openverse", "--out", tmp_path / "data")
    assert is_one_clear_error(ended, "no network")
    assert "--source urls" in ended[2]


@pytest.mark.parametrize(("arguments", "told"), [
    ([], "Name what to look for"), (["--class", "daisy"], "such as"), (["--class", "=x"], "such as"),
])  # fmt: skip
def test_usage(run, arguments, told):
    code, _, err = run("crawl", *arguments)
    assert code == 2
    assert told in err


def test_unknown_source_and_missing_file_are_clear_errors(run):
    assert is_one_clear_error(run("crawl", "daisy", "--source", "openvers"), "openvers")
    assert is_one_clear_error(run("crawl", "daisy", "--source", ","), "no source")
    assert is_one_clear_error(run("crawl", "--query-list", "nowhere"), "nowhere")
