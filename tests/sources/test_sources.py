import html
import importlib
import sys
from itertools import islice
from pathlib import Path

import pytest
from image_sites import BY, Bing, Flickr, Google, INaturalist, Openverse, Wikimedia
from web import running, serving

import retrain.sources
from retrain.errors import RetrainError
from retrain.fetch import Client, FetchError
from retrain.options import FetchOptions
from retrain.sources import SOURCES, Candidate, key, load_search, require_sources, search
from retrain.sources.licences import Licence

FAST = FetchOptions(connect_s=1, read_s=1, total_s=2, tries=3, pause_s=0.01, max_wait_s=3)


@pytest.fixture
def client(tmp_path):
    return Client(FAST, tmp_path / "hosts")


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("RETRAIN_FLICKR_KEY", "sesame")


@pytest.fixture
def found(monkeypatch, client):
    """What a source finds on a site that takes the place of the real one."""

    def find(name, site, query, licence="safe", limit=None):
        monkeypatch.setenv(f"RETRAIN_{name.upper()}_URL", site.base_url)
        monkeypatch.setitem(SOURCES, name, SOURCES[name]._replace(rates=(), rates_with_key=()))
        return list(search(name, client, query, licence, limit))

    return find


def ids(candidates):
    return [candidate.id for candidate in candidates]


# The contract


def test_every_file_is_registered():
    files = {path.stem for path in Path(retrain.sources.__file__).parent.glob("[!_]*.py")} - {"licences", "engines"}
    assert files == set(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_source_keeps_its_contract(name):
    assert importlib.import_module(f"retrain.sources.{name}").__doc__
    assert load_search(name).__code__.co_varnames[:3] == ("client", "query", "licence")
    assert SOURCES[name].what
    assert name == "urls" or SOURCES[name].rates


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "urls"])
@pytest.mark.parametrize("answer", [
    "<html>Sorry</html>", {}, [], {"results": None}, {"results": [1]}, {"query": {"pages": [{"imageinfo": [1]}]}},
    {"results": [{"id": 1, "url": ["x"], "photos": [{"id": 1, "url": {}}]}], "page_count": 1},
    {"stat": "ok", "licenses": 7, "photos": {}},
])  # fmt: skip
def test_answer_of_another_form_is_an_error_or_nothing(name, answer, client, monkeypatch):
    with serving({"": lambda handler, _: handler.answer(answer)}) as server:
        monkeypatch.setenv(f"RETRAIN_{name.upper()}_URL", f"{server.url}/")
        try:
            assert list(search(name, client, "daisy", "safe")) == []
        except FetchError as error:
            assert error.reason in ("malformed", "status")


def test_unknown_source_gets_the_nearest():
    with pytest.raises(RetrainError) as caught:
        require_sources(["openvers"], "safe")
    assert "openverse" in caught.value.hint


def test_each_picture_comes_once_and_no_more_than_asked(monkeypatch, client):
    rows = [Candidate("urls", str(number % 4), "http://example.org") for number in range(20)]
    monkeypatch.setattr(retrain.sources, "load_search", lambda _name: lambda *_: iter(rows))
    assert ids(search("urls", client, "", "safe")) == ["0", "1", "2", "3"]
    assert ids(search("urls", client, "", "safe", 2)) == ["0", "1"]


# Keys


def test_key_comes_from_a_file_that_nobody_else_may_read(monkeypatch, tmp_path):
    monkeypatch.delenv("RETRAIN_FLICKR_KEY")
    with pytest.raises(RetrainError, match="wants a key"):
        require_sources(["flickr"], "safe")
    path = tmp_path / "config" / "retrain" / "keys"
    path.parent.mkdir(parents=True)
    path.write_text("flickr=secret=1\n")
    path.chmod(0o600)
    assert key("flickr") == "secret=1"
    path.chmod(0o640)
    with pytest.raises(RetrainError, match="others may read") as caught:
        key("flickr")
    assert "secret" not in str(caught.value)


# Openverse


def test_openverse_pages_to_the_last(found):
    catalogue = {"daisy": [(f"d{number}", "by") for number in range(45)]}
    with running(Openverse(catalogue)) as site:
        candidates = found("openverse", site, "daisy")
        assert ids(candidates) == [f"d{number}" for number in range(45)]
        assert [asked.params["page"] for asked in site.asked] == ["1", "2", "3"]
        assert site.asked[0].params["license_type"] == "commercial,modification"
        assert candidates[0] == Candidate(
            source="openverse", id="d0", image_url=site.photo_url("d0"), landing_url="https://photos.example/d0",
            creator="Ann 0", creator_url="https://photos.example/ann0", licence=Licence("by", "4.0"),
            licence_text="by 4.0", attribution='"Title" by Ann 0 is licensed under by.',
        )  # fmt: skip
        assert candidates[4].creator is None


def test_openverse_goes_on_by_shape_where_a_query_ends(found):
    catalogue = {"daisy": [(f"d{number}", "cc0") for number in range(700)]}
    with running(Openverse(catalogue)) as site:
        candidates = found("openverse", site, "daisy")
    assert len(candidates) == 700
    assert not any(asked.params["page"] == "13" for asked in site.asked)


def test_openverse_keeps_its_quota(client, monkeypatch):
    monkeypatch.setitem(SOURCES, "openverse", SOURCES["openverse"]._replace(rates=((3, 0.3),)))
    with running(Openverse({"daisy": [(f"d{number}", "by") for number in range(150)]}, rate=(3, 0.3))) as site:
        monkeypatch.setenv("RETRAIN_OPENVERSE_URL", site.base_url)
        assert len(list(search("openverse", client, "daisy", "safe"))) == 150
        assert not site.refused


def test_openverse_asks_for_no_page_that_is_not_needed(client, monkeypatch):
    with running(Openverse({"daisy": [(f"d{number}", "by") for number in range(100)]})) as site:
        monkeypatch.setenv("RETRAIN_OPENVERSE_URL", site.base_url)
        assert len(list(islice(search("openverse", client, "daisy", "safe"), 20))) == 20
        assert len(site.asked) == 1


def test_openverse_licence_whose_address_says_otherwise_is_none(found, monkeypatch):
    with running(Openverse({"daisy": [("d", "by")]})) as site:
        row = site.row
        monkeypatch.setattr(site, "row", lambda name, licence, number: row(name, licence, number) | {
            "license_url": "https://creativecommons.org/licenses/by-nc/4.0/"
        })  # fmt: skip
        assert [candidate.licence for candidate in found("openverse", site, "daisy")] == [None]


@pytest.fixture
def openverse_key(monkeypatch):
    monkeypatch.setenv("RETRAIN_OPENVERSE_KEY", "me:open sesame")


MANY = {"daisy": [(f"d{number}", "by") for number in range(130)]}


def test_openverse_key_brings_a_token_and_larger_pages(found, openverse_key):
    with running(Openverse(MANY, {"me": "open sesame"})) as site:
        assert len(found("openverse", site, "daisy")) == 130
        assert len(found("openverse", site, "daisy")) == 130
        assert site.paths() == ["/v1/auth_tokens/token/", *["/v1/images/"] * 6]  # one token for both
        assert {asked.params["page_size"] for asked in site.asked[1:]} == {"48"}
        assert {asked.headers["authorization"] for asked in site.asked[1:]} == {"Bearer token-0"}


def test_openverse_serves_240_with_a_key_too(found, openverse_key):
    with running(Openverse({"daisy": [(f"d{number}", "cc0") for number in range(700)]}, {"me": "open sesame"})) as site:
        assert len(found("openverse", site, "daisy")) == 700


def test_openverse_token_that_is_over_is_exchanged_anew(found, openverse_key, monkeypatch):
    with running(Openverse(MANY, {"me": "open sesame"})) as site:
        search_all = site.search

        def forget(handler, asked):
            if asked.params["page"] == "2" and len(site.tokens) == 1:
                site.tokens = ["of somebody else"]
            search_all(handler, asked)

        site.routes[site.path] = forget
        assert len(found("openverse", site, "daisy")) == 130
        assert len(site.paths("/v1/auth_tokens")) == 2


def test_openverse_token_is_not_used_past_its_time(found, openverse_key):
    with running(Openverse(MANY, {"me": "open sesame"}, lifetime=1)) as site:
        assert len(found("openverse", site, "daisy")) == 130
        assert len(site.paths("/v1/auth_tokens")) == 3


@pytest.mark.parametrize("trouble", ["key", "token"])
def test_openverse_key_that_is_refused_is_told_without_it(found, openverse_key, trouble):
    with running(Openverse(MANY, {"me": "another" if trouble == "key" else "open sesame"})) as site:
        if trouble == "token":
            site.exchange = None
            site.routes["/v1/auth_tokens/token/"] = lambda handler, _: handler.answer(
                {"access_token": "stale", "expires_in": 36000}
            )
        with pytest.raises(FetchError, match="does not take your key") as caught:
            found("openverse", site, "daisy")
        assert caught.value.reason == "refused_key"
        assert len(site.asked) == (1 if trouble == "key" else 4)
    assert "sesame" not in f"{caught.value}{caught.value.hint}{caught.value.__cause__}"


def test_openverse_key_of_another_form_is_an_error_and_nothing_is_asked(found, monkeypatch):
    monkeypatch.setenv("RETRAIN_OPENVERSE_KEY", "open-sesame")
    with running(Openverse(MANY)) as site:
        with pytest.raises(RetrainError, match="ID:SECRET") as caught:
            found("openverse", site, "daisy")
        assert not site.asked
    assert "sesame" not in f"{caught.value}{caught.value.hint}"


def test_key_of_openverse_allows_more_requests(client, monkeypatch, openverse_key):
    few, many = ((1, 60.0),), ((1000, 1.0),)
    monkeypatch.setitem(SOURCES, "openverse", SOURCES["openverse"]._replace(rates=few, rates_with_key=many))
    with running(Openverse(MANY, {"me": "open sesame"})) as site:
        monkeypatch.setenv("RETRAIN_OPENVERSE_URL", site.base_url)
        assert len(list(search("openverse", client, "daisy", "safe"))) == 130


# Wikimedia


def photos(count, code="cc-by-4.0", address=BY):
    return [(f"w{number}", code, address) for number in range(count)]


def test_wikimedia_is_not_asked_by_nobody_in_particular(found, monkeypatch):
    monkeypatch.delenv("RETRAIN_CONTACT")
    with running(Wikimedia({"daisy": []})) as site:
        with pytest.raises(FetchError, match="RETRAIN_CONTACT"):
            found("wikimedia", site, "daisy")
        assert not site.asked


@pytest.mark.parametrize("query", ["daisy", "Category:Bellis perennis"])
def test_wikimedia_sends_back_what_continues(found, query):
    with running(Wikimedia({query: photos(12)}, page_size=5)) as site:
        candidates = found("wikimedia", site, query)
        assert [candidate.image_url for candidate in candidates] == [
            site.photo_url(f"w{number}") for number in range(12)
        ]
        assert len(site.asked) == 3
        assert "continue" in site.asked[1].params


def test_wikimedia_tells_author_and_licence_without_html(found):
    with running(Wikimedia({"daisy": photos(1)})) as site:
        (candidate,) = found("wikimedia", site, "daisy")
    assert candidate.creator == "Ann & 0"
    assert candidate.licence == Licence("by", "4.0")
    assert candidate.landing_url == "https://commons.example/wiki/File:w0.jpg"


def test_wikimedia_leaves_out_drawings_and_what_is_not_told_yet(found):
    with running(Wikimedia({"daisy": [("drawing", "cc0", None), ("bare", "cc0", None), *photos(1)]})) as site:
        assert ids(found("wikimedia", site, "daisy")) == ["1002"]


def test_wikimedia_waits_where_the_servers_lag(found):
    with running(Wikimedia({"daisy": photos(1)}, lags=1)) as site:
        assert len(found("wikimedia", site, "daisy")) == 1
        assert site.asked[1].at - site.asked[0].at >= 1


def test_wikimedia_error_of_status_200_is_an_error(found):
    with running(Wikimedia({})) as site, pytest.raises(FetchError, match="invalidtitle: Bad title"):
        found("wikimedia", site, "Category:")


# iNaturalist


def test_inaturalist_pages_by_id_and_tells_each_photos_licence(found):
    observations = [[(f"i{number}", "cc-by"), (f"null{number}", None)] for number in range(7)]
    with running(INaturalist({"Bellis perennis": observations}, page_size=3)) as site:
        candidates = found("inaturalist", site, "Bellis perennis")
        assert [asked.params["id_above"] for asked in site.asked] == ["0", "3", "6", "7"]
        assert site.asked[0].params["photo_license"] == "cc0,cc-by,cc-by-sa"
    assert [candidate.licence for candidate in candidates] == [Licence("by"), None] * 7
    assert candidates[0].image_url.endswith("/photos/i0/medium.jpg")
    assert ids(candidates)[:3] == ["1-10", "1-11", "2-20"]


def test_inaturalist_busy_in_html_is_asked_again(found):
    with running(INaturalist({"daisy": [[("i", "cc0")]]})) as site:
        site.html_first = True
        assert len(found("inaturalist", site, "daisy")) == 1


# Flickr


def test_flickr_asks_for_the_licences_as_they_are_numbered_today(found):
    rows = [
        ("f1", "4"),
        ("f2", "12"),
        ("f3", "9"),
        ("nc", "2"),
        ("reserved", "0"),
        ("planted-1", "0"),
        ("commons", "7"),
    ]
    with running(Flickr({"daisy": rows})) as site:
        candidates = found("flickr", site, "daisy")
        assert site.asked[1].params["license"] == "4,9,12"
    licences = {candidate.id: candidate.licence for candidate in candidates}
    assert licences == {
        "f1": Licence("by", "2.0"), "f2": Licence("by", "4.0"), "f3": Licence("cc0", "1.0"), "planted-1": None,
    }  # fmt: skip
    assert candidates[0].landing_url == "https://www.flickr.com/photos/12@N00/f1"


def test_flickr_stops_where_pages_repeat(found):
    with running(Flickr({"daisy": [(f"f{number}", "4") for number in range(3000)]}, served=1000)) as site:
        assert len(found("flickr", site, "daisy")) == 1000
        assert [asked.params.get("page") for asked in site.asked] == [None, "1", "2", "3"]


def test_flickr_error_tells_no_key(found):
    with running(Flickr({}, key="another")) as site, pytest.raises(FetchError, match="Invalid API Key") as caught:
        found("flickr", site, "daisy")
    assert "sesame" not in f"{caught.value}{caught.value.hint}"


def test_flickr_error_tells_no_key_where_the_answer_does(found):
    message = {"stat": "fail", "code": 100, "message": "Invalid API Key (sesame)"}
    with serving({"": lambda handler, _: handler.answer(message)}) as server:
        server.base_url = server.url
        with pytest.raises(FetchError, match="Invalid API Key") as caught:
            found("flickr", server, "daisy")
    assert "sesame" not in f"{caught.value}{caught.value.hint}"


# Lists of addresses


def test_list_of_addresses(client, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRAIN_URLS_URL", "http://mirror.example/pictures/")
    text = f"# my daisies\n\nhttps://example.org/1.jpg\n2.jpg\tCC BY 4.0\tAnn\thttps://example.org/2\n3.jpg\t{BY}\n"
    (tmp_path / "daisy.txt").write_text(text)
    first, second, third = search("urls", client, str(tmp_path / "daisy"), "safe")
    assert (first.image_url, first.licence, first.creator) == ("https://example.org/1.jpg", None, None)
    assert (second.image_url, second.creator) == ("http://mirror.example/pictures/2.jpg", "Ann")
    assert second.landing_url == "https://example.org/2"
    assert second.licence == third.licence == Licence("by", "4.0")


def test_missing_list_is_an_error(client):
    with pytest.raises(RetrainError, match="there is no file"):
        list(search("urls", client, "nowhere", "safe"))


# Search engines


def test_google_takes_addresses_from_the_scripts_and_no_copies_of_its_own(found):
    names = [f"g{number}" for number in range(7)]
    with running(Google({"red daisy": names})) as site:
        candidates = found("google", site, "red daisy", "any")
        assert [asked.params["start"] for asked in site.asked] == ["0", "100"]
    assert [candidate.image_url for candidate in candidates] == [f"{site.photo_url(name)}?a=1&b=é" for name in names]
    assert {(candidate.licence, candidate.creator) for candidate in candidates} == {(None, None)}


def test_google_pages_to_the_last(found):
    with running(Google({"daisy": [f"g{number}" for number in range(250)]})) as site:
        assert len(found("google", site, "daisy", "any")) == 250
        assert len(site.asked) == 4


def test_google_that_asks_for_a_human_is_not_asked_again(found):
    with running(Google({"daisy": ["g"]}, walled=True)) as site:
        with pytest.raises(FetchError, match="busy"):
            found("google", site, "daisy", "any")
        assert site.paths() == ["/search", "/sorry/index"]


@pytest.mark.parametrize("kind", [Google, Bing])
def test_engine_s_page_without_results_is_an_error(found, kind):
    with running(kind({})) as site, pytest.raises(FetchError, match="made for browsers alone"):
        found(kind.__name__.lower(), site, "daisy", "any")


def test_bing_tells_address_and_page_and_ends_where_pages_repeat(found):
    with running(Bing({"cats & dogs #1": [f"b{number}" for number in range(90)]})) as site:
        candidates = found("bing", site, "cats & dogs #1", "any")
        assert len(candidates) == 90
        assert len(site.asked) == 5
    assert candidates[0].image_url == f"{site.photo_url('b0')}?width=1&x=.jpg"
    assert candidates[0].landing_url == "https://photos.example/b0"


@pytest.mark.parametrize("said", ["{", "[1]", "null", '"' * 9, "[" * 100_000])
def test_bing_s_link_in_another_form_costs_no_other_picture(found, monkeypatch, said):
    link = Bing.link
    with running(Bing({"daisy": ["b1", "b2", "b3"]})) as site:
        torn = f'<li><div class="imgpt"><a m="{html.escape(said)}"></a></div></li>'
        monkeypatch.setattr(site, "link", lambda name: torn if name == "b2" else link(site, name))
        urls = [candidate.image_url for candidate in found("bing", site, "daisy", "any")]
    assert [url.partition("?")[0] for url in urls] == [site.photo_url("b1"), site.photo_url("b3")]


@pytest.mark.parametrize("name", ["google", "bing"])
def test_engine_wants_any_licence_and_its_package(name, monkeypatch):
    require_sources([name], "any")
    for licence in ("safe", "commercial"):
        with pytest.raises(RetrainError, match="tells no licences") as caught:
            require_sources([name], licence)
        assert "--license any" in caught.value.hint
    monkeypatch.setitem(sys.modules, "icrawler", None)
    monkeypatch.setattr(retrain.sources, "find_spec", lambda _name: None)
    with pytest.raises(RetrainError, match="icrawler") as caught:
        require_sources([name], "any")
    assert "make setup-full" in caught.value.hint
