"""Bing's pictures: addresses and pages alone, without author and licence."""

import json
from contextlib import suppress
from urllib.parse import quote_plus

from retrain.sources.engines import search_engine


def search(client, query, licence):
    from bs4 import BeautifulSoup
    from icrawler.builtin.bing import BingFeeder, BingParser

    class Parser(BingParser):
        """icrawler 0.6.10 takes addresses up to the first .jpg alone, and no pages."""

        def parse(self, response):
            links = BeautifulSoup(response.content, "lxml", from_encoding="utf-8").select(".imgpt a[m]")
            rows = map(_read, links)
            return [{"file_url": row["murl"], "landing_url": row.get("purl")} for row in rows if row.get("murl")]

    # The feeder joins it to the address as it is.
    yield from search_engine(client, "bing", quote_plus(query), BingFeeder, Parser)


def _read(link):
    """What a link says of its picture; nothing where it is not in the agreed form."""
    with suppress(ValueError, RecursionError):
        row = json.loads(str(link["m"]))
        if isinstance(row, dict):
            return row
    return {}
