"""What search engines have in common.  icrawler knows how to ask them; our own guarded client does the asking."""

from queue import SimpleQueue
from types import SimpleNamespace
from urllib.parse import urlsplit

from retrain.fetch import FetchError
from retrain.sources import Candidate, base_url, id_of

RESULTS = 1000  # beyond them pages repeat


def search_engine(client, name, keyword, feeder_class, parser_class):
    """Candidates without author and licence.  keyword: the query, as icrawler's feeder wants it."""
    parser, seen = parser_class(1, None, None), set[str]()
    for query in _queries(feeder_class, keyword):
        # Once: an engine that does not want us is not asked again.
        reply = client.get(f"{base_url(name)}?{query}", tries=1)
        rows = parser.parse(SimpleNamespace(content=reply.body))
        new = {row["file_url"]: row.get("landing_url") for row in rows if row["file_url"] not in seen}
        if not new and not seen:
            detail = f"no results are on {name}'s page: none were found, or it is made for browsers alone"
            raise FetchError("malformed", reply.url, detail, reply)
        for url, page in new.items():
            yield Candidate(source=name, id=id_of(url), image_url=url, landing_url=page)
        if not new:
            return
        seen |= new.keys()


def _queries(feeder_class, keyword):
    """The query strings of the pages of results."""
    feeder = feeder_class(1, None, None)
    feeder.out_queue = SimpleQueue()  # its own holds five and then waits
    feeder.feed(keyword, 0, RESULTS)
    return [urlsplit(feeder.out_queue.get()).query for _ in range(feeder.out_queue.qsize())]
