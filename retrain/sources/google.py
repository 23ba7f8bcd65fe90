"""Google's pictures: addresses alone, without author and licence."""

import json
import re

from retrain.sources.engines import search_engine

# ["https://example.org/picture.jpg",1080,1920] in a script: address, height, width
PICTURE = re.compile(r'\[("https?:(?:[^"\\]|\\.)+"),\d+,\d+\]')
OWN = re.compile(r"https?://([\w-]+\.)*(google|gstatic)\.[a-z.]+(:\d+)?/")  # small copies of the pictures


def search(client, query, licence):
    from icrawler.builtin.google import GoogleFeeder, GoogleParser

    class Parser(GoogleParser):
        """icrawler 0.6.10 looks no further than the first script that mentions a .jpg or .png, such as a logo."""

        def parse(self, response):
            pictures = PICTURE.findall(response.content.decode("utf-8", "ignore"))
            urls = map(json.loads, pictures)
            return [{"file_url": url} for url in urls if not OWN.match(url)]

    yield from search_engine(client, "google", query, GoogleFeeder, Parser)
