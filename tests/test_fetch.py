import multiprocessing
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import requests
from web import serving

from retrain import fetch
from retrain.fetch import Client, FetchError, is_public, opts_out, plain, retry_after
from retrain.options import FetchOptions

FAST = FetchOptions(connect_s=1, read_s=1, total_s=2, max_bytes=1000, tries=3, pause_s=0.01, max_wait_s=5)


def ok(handler, _asked):
    handler.answer({"ok": True})


def redirect(target, status=302):
    return lambda handler, _asked: handler.answer("", status, {"Location": target})


@pytest.fixture
def client(tmp_path):
    return Client(FAST, tmp_path / "hosts")


def fails(client, url, reason, **how):
    with pytest.raises(FetchError) as caught:
        client.get(url, **how)
    assert caught.value.reason == reason
    return caught.value


@pytest.mark.parametrize("address", [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
    "::127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2001:0:4136:e378:8000:63bf:f5ff:fffe",
])  # fmt: skip
def test_address_that_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_public_address(address):
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost."])
def test_private_host_is_never_reached(client, host):
    with serving({"": ok}) as server:
        fails(client, f"http://{host}:{server.server_port}/", "refused_address")
        assert not server.asked


def test_host_with_one_private_address_among_public_ones_is_refused(client, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("8.8.8.8", "127.0.0.1")]
    monkeypatch.setattr(fetch.socket, "getaddrinfo", lambda *_args, **_how: found)
    fails(client, "http://example.org/", "refused_address")


def test_the_address_that_was_checked_is_the_one_that_is_reached(client, monkeypatch):
    """DNS rebinding: the name is looked up once, and what a second look-up would say is of no effect."""
    looked_up, reached = [], []

    def look_up(host, port, **_):
        looked_up.append(host)
        address = "8.8.8.8" if len(looked_up) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(place, *_):
        reached.append(place)
        raise OSError(None, "not from a test")

    monkeypatch.setattr(fetch.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(fetch, "create_connection", connect)
    fails(client, "http://rebinding.example/", "unreachable")
    assert looked_up == ["rebinding.example"]
    assert reached == [("8.8.8.8", 80)]


def test_redirect_to_a_private_address_is_refused(client):
    with serving({"": ok}) as private, serving({"": redirect(f"{private.url}/secret")}) as server:
        client.allow(server.url)
        fails(client, server.url, "refused_address")
        assert not private.asked


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.org/", "gopher://127.0.0.1/", "data:,x"])
def test_redirect_to_another_scheme_is_refused(client, target):
    with serving({"": redirect(target)}) as server:
        client.allow(server.url)
        fails(client, server.url, "refused_scheme")


def test_other_schemes_are_refused(client):
    fails(client, "file:///etc/passwd", "refused_scheme")


@pytest.mark.parametrize("url", ["http://", "http://[", "http://a:99999999/", "http://\x00/", "http://ex ample/"])
def test_what_is_no_address_is_refused(client, url):
    fails(client, url, "unreachable")


def test_allowing_a_host_allows_that_port_alone(client):
    with serving({"": ok}) as allowed, serving({"": ok}) as other:
        client.allow(allowed.url)
        assert client.get(allowed.url).json() == {"ok": True}
        fails(client, other.url, "refused_address")


def test_redirects_are_followed_and_headers_stay_at_their_host(client):
    with serving({"": ok}) as second, serving({"/a": redirect("/b"), "/b": redirect(f"{second.url}/c", 307)}) as first:
        client.allow(first.url)
        client.allow(second.url)
        assert client.get(f"{first.url}/a", headers={"Authorization": "secret"}).url == f"{second.url}/c"
        assert [asked.headers.get("authorization") for asked in first.asked] == ["secret", "secret"]
        assert "authorization" not in second.asked[0].headers


def test_endless_redirects_end(client):
    with serving({"": redirect("/again")}) as server:
        client.allow(server.url)
        fails(client, server.url, "too_many_redirects")
        assert len(server.asked) == fetch.MAX_REDIRECTS + 1


def test_environment_sends_neither_proxy_nor_password(client, monkeypatch, tmp_path):
    with serving({"": ok}) as proxy, serving({"": ok}) as server:
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        client.allow(server.url)
        client.get(server.url)
        assert not proxy.asked
        assert "authorization" not in server.asked[0].headers


def test_user_agent_says_who_asks(tmp_path, monkeypatch):
    monkeypatch.delenv("RETRAIN_CONTACT")
    client = Client(FAST, tmp_path / "hosts")
    with serving({"": ok}) as server:
        client.allow(server.url)
        client.get(server.url)
        agent = server.asked[0].headers["user-agent"]
    assert agent.startswith("retrain/")
    assert agent.endswith(f"({fetch.ABOUT}) python-requests/{requests.__version__}")
    monkeypatch.setenv("RETRAIN_CONTACT", "ann@example.org")
    assert f"({fetch.ABOUT}; ann@example.org)" in fetch.user_agent()


def test_body_over_the_limit_is_refused(client):
    with serving({"": lambda handler, _: handler.answer(bytes(5000))}) as server:
        client.allow(server.url)
        fails(client, server.url, "too_large")


def test_compressed_answer_is_refused(client):
    with serving({"": lambda handler, _: handler.answer(b"x", headers={"Content-Encoding": "gzip"})}) as server:
        client.allow(server.url)
        fails(client, server.url, "broken_off")


def test_truncated_answer_is_asked_for_again(client):
    def cut_twice(handler, _asked):
        handler.answer(b"x" * 100, cut=50 if len(server.asked) < 3 else 0)

    with serving({"": cut_twice}) as server:
        client.allow(server.url)
        assert client.get(server.url).body == b"x" * 100
        assert len(server.asked) == 3


@pytest.mark.parametrize("part", ["status", "body"])
def test_slow_server_is_left(tmp_path, part):
    """A byte now and then keeps any time-out between bytes from passing."""

    def drip(handler, _asked):
        handler.wfile.write(
            b"HTTP/1.1 200 OK\r\n" if part == "status" else b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
        )
        for _ in range(30):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.1)

    client = Client(FetchOptions(read_s=1, total_s=0.3, tries=1), tmp_path / "hosts")
    with serving({"": drip}) as server:
        client.allow(server.url)
        start = time.monotonic()
        fails(client, server.url, "too_slow")
        assert time.monotonic() - start < 2


def test_retry_after_is_kept_to_the_second(client):
    def busy_once(handler, _asked):
        handler.answer("", 429 if len(server.asked) == 1 else 200, {"Retry-After": 1})

    with serving({"": busy_once}) as server:
        client.allow(server.url)
        client.get(server.url)
        first, second = (asked.at for asked in server.asked)
        assert 1 <= second - first < 2


def test_retry_after_is_kept_by_the_next_process(tmp_path):
    with serving({"": lambda handler, _: handler.answer("", 503, {"Retry-After": 3600})}) as server:
        for _ in range(2):
            client = Client(FAST, tmp_path / "hosts")
            client.allow(server.url)
            fails(client, server.url, "quota")
        assert len(server.asked) == 1


def test_retry_after_as_a_date_is_by_the_clock_of_the_server():
    now = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
    headers = {"date": format_datetime(now, True), "retry-after": format_datetime(now + timedelta(seconds=7), True)}
    assert retry_after(headers) == 7


@pytest.mark.parametrize("text", ["", "soon", "-1", "1e9", "99999999999999", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_retry_after_that_says_nothing(text):
    assert retry_after({"retry-after": text}) is None


@pytest.mark.parametrize("status", fetch.BUSY)
def test_busy_server_is_asked_so_often_and_no_more(client, status):
    with serving({"": lambda handler, _: handler.answer("", status)}) as server:
        client.allow(server.url)
        fails(client, server.url, "busy")
        assert len(server.asked) == FAST.tries


def test_missing_file_is_asked_for_once(client):
    with serving({}) as server:
        client.allow(server.url)
        assert fails(client, server.url, "status").reply.status == 404
        assert len(server.asked) == 1


def test_answer_of_status_200_may_say_later(client):
    def lagging(handler, _asked):
        handler.answer({"error": len(server.asked) < 2})

    with serving({"": lagging}) as server:
        client.allow(server.url)
        assert client.get(server.url, is_busy=lambda reply: reply.json()["error"]).json() == {"error": False}


def test_html_is_no_json(client):
    with serving({"": lambda handler, _: handler.answer("<html>Sorry</html>")}) as server:
        client.allow(server.url)
        with pytest.raises(FetchError, match="JSON"):
            client.get(server.url).json()


@pytest.mark.parametrize("tag", ["noai", "noindex, NoImageAI", "googlebot: noindex, noai", "otherbot:noimageai"])
def test_opt_out_is_honoured(client, tag):
    with serving({"": lambda handler, _: handler.answer(b"x", headers={"X-Robots-Tag": tag})}) as server:
        client.allow(server.url)
        kept = []
        fails(client, server.url, "opted_out", keep=kept.append)
        assert not kept


def test_other_tags_are_no_opt_out():
    assert not opts_out({"x-robots-tag": "noarchive, nosnippet"})
    assert not opts_out({})


def _ask_often(url, folder, count):
    client = Client(FAST, folder)
    client.allow(url)
    client.limit(url, [(4, 0.5)])
    for _ in range(count):
        client.get(url)


def test_processes_share_a_rate(tmp_path):
    with serving({"": ok}, rate=(4, 0.5)) as server:
        context = multiprocessing.get_context("fork")
        crawls = [context.Process(target=_ask_often, args=(server.url, tmp_path / "hosts", 6)) for _ in range(3)]
        for crawl in crawls:
            crawl.start()
        for crawl in crawls:
            crawl.join()
        assert len(server.asked) == 18
        assert not server.refused


def test_two_connections_to_a_host_at_most(tmp_path):
    def slow(handler, _asked):
        time.sleep(0.03)
        handler.answer({})

    with serving({"": slow}) as server:
        context = multiprocessing.get_context("fork")
        crawls = [context.Process(target=_fetch_all, args=(server.url, tmp_path / "hosts")) for _ in range(4)]
        for crawl in crawls:
            crawl.start()
        for crawl in crawls:
            crawl.join()
        assert len(server.asked) == 16
        assert max(asked.many for asked in server.asked) == fetch.CONNECTIONS


def _fetch_all(url, folder):
    client = Client(FAST, folder)
    client.allow(url)
    for _ in range(4):
        client.get(url)


def test_closing_cuts_what_is_under_way_and_what_waits(tmp_path):
    def hang(handler, _asked):
        time.sleep(5)

    client = Client(FetchOptions(tries=3), tmp_path / "hosts")
    with serving({"": hang}) as server, ThreadPoolExecutor(3) as threads:
        client.allow(server.url)
        started, waiting = time.monotonic(), [threads.submit(client.get, server.url) for _ in range(3)]
        while len(server.asked) < fetch.CONNECTIONS:
            time.sleep(0.01)
        client.close()
        assert all(isinstance(future.exception(), FetchError) for future in waiting)
        assert time.monotonic() - started < 4
        assert len(server.asked) == fetch.CONNECTIONS


def test_no_key_in_any_error(client):
    with serving({"/missing": lambda handler, _: handler.answer("", 404)}) as server:
        client.allow(server.url)
        for url in (f"{server.url}/missing", "http://127.0.0.1:1/", "http://no-such-host.invalid/", "ftp://a/"):
            with pytest.raises(FetchError) as caught:
                client.get(url, {"api_key": "secret"}, {"Authorization": "secret"})
            assert "secret" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


def test_plain_address_holds_no_secret():
    assert plain("https://me:pw@Example.org/a/b?key=1#2") == "https://Example.org/a/b"
