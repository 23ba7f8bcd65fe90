"""Picture sites as the real ones answer, on this machine: paging, quotas, errors and what goes wrong with pictures."""

import html
import io
import json
import time
from functools import cache
from random import Random
from urllib.parse import unquote

from web import Server

from retrain.recipes.sampling import SUBJECTS, draw

SIZE = 224  # px
BY = "https://creativecommons.org/licenses/by/4.0/"


@cache
def picture(name, size=SIZE, kind="JPEG"):
    """Bytes of a picture drawn for that name, always the same."""
    random, stream = Random(name), io.BytesIO()
    draw(random.choice(list(SUBJECTS)), random, size).save(stream, kind)
    return stream.getvalue()


class Site(Server):
    """Serves `/photos/NAME.jpg`, and by its name's beginning what can be wrong with it.

    private: an address that nobody may be led to.
    """

    path = "/"

    def __init__(self, rate=None, private="http://127.0.0.1:9/"):
        super().__init__({self.path: self.search, "": self.photo}, rate)
        self.private = private

    def search(self, handler, _asked):
        handler.answer("", 404)

    def photo(self, handler, asked):
        name = unquote(asked.path).removeprefix("/photos/").removesuffix(".jpg")
        match name.partition("-")[0]:
            case "missing":
                handler.answer("", 404)
            case "cut":
                handler.answer(picture(name), cut=100)
            case "broken":
                handler.answer(picture(name)[:-2000])
            case "html":
                handler.answer("<html>Please sign in</html>")
            case "private":
                handler.answer("", 302, {"Location": self.private})
            case "moved":
                handler.answer("", 301, {"Location": f"/photos/{name.replace('moved', 'found')}.jpg"})
            case "noai":
                handler.answer(picture(name), headers={"X-Robots-Tag": "noai, noimageai"})
            case "small":
                handler.answer(picture(name, 100))
            case "webp":
                handler.answer(picture(name, kind="WEBP"))
            case "twin":
                handler.answer(picture("twin"))
            case "again":  # the same picture in other bytes
                handler.answer(picture("again", kind="PNG" if name == "again-2" else "JPEG"))
            case "slow":
                self.drip(handler)
            case _:
                handler.answer(picture(name))

    def drip(self, handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(40):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)

    def photo_url(self, name):
        return f"{self.url}/photos/{name}.jpg"


class Openverse(Site):
    """catalogue: {query: [(name, licence)]}; what is to slip through the licence filter begins with `planted`.

    keys: {client_id: client_secret}.  lifetime: seconds that tokens hold, as it says; tokens: those that do hold.
    """

    path = "/v1/images/"

    def __init__(self, catalogue, keys=(), lifetime=36_000, **how):
        self.catalogue, self.keys, self.lifetime, self.tokens = catalogue, dict(keys), lifetime, []
        super().__init__(**how)
        self.routes["/v1/auth_tokens/token/"] = self.exchange

    @property
    def base_url(self):
        return f"{self.url}/v1/"

    def search(self, handler, asked):
        asks = asked.params
        page, size = int(asks.get("page", 1)), int(asks.get("page_size", 20))
        kind, most, token = "anonymous", 20, asked.headers.get("authorization")
        if token is not None:
            if token.removeprefix("Bearer ") not in self.tokens:
                return self.refuse_with(handler, "Incorrect authentication credentials.", ', error="invalid_token"')
            kind, most = "authenticated", 50
        if size > most:
            return self.refuse_with(handler, f"page_size may not exceed {most} for {kind} requests")
        if page * size > 240:
            return self.refuse_with(handler, f"pagination depth may not exceed 240 for {kind} requests")
        found = [
            self.row(name, licence, number)
            for number, (name, licence) in enumerate(self.catalogue.get(asks["q"], []))
            if (name.startswith("planted") or self.fits(licence, asks.get("license_type", "all")))
            and asks.get("aspect_ratio") in (None, self.shape(number))
        ]
        pages = min(240 // size, -(-len(found) // size))
        rows = found[(page - 1) * size : page * size]
        answer = {"result_count": min(240, len(found)), "page_count": pages, "page_size": size, "page": page}
        return handler.answer(answer | {"results": rows})

    def refuse_with(self, handler, detail, error=""):
        handler.answer({"detail": detail}, 401, {"WWW-Authenticate": f'Bearer realm="api"{error}'})

    def exchange(self, handler, asked):
        form = asked.form
        if form.get("grant_type") != "client_credentials":
            return handler.answer({"error": "unsupported_grant_type"}, 400)
        if self.keys.get(form.get("client_id")) != form.get("client_secret", ""):
            return handler.answer({"error": "invalid_client"}, 401)
        self.tokens.append(f"token-{len(self.tokens)}")
        answer = {"access_token": self.tokens[-1], "scope": "read write groups", "token_type": "Bearer"}
        return handler.answer(answer | {"expires_in": self.lifetime})

    def fits(self, licence, kinds):
        no = {"commercial": "nc", "modification": "nd"}
        return not any(no[kind] in (licence or "").split("-") for kind in kinds.split(",") if kind in no)

    def shape(self, number):
        return ("square", "wide", "tall")[number % 3]

    def row(self, name, licence, number):
        free = licence in ("cc0", "pdm")
        version = "1.0" if free else "4.0"
        mark = {"cc0": "zero", "pdm": "mark"}.get(licence)
        address = f"publicdomain/{mark}/1.0/" if mark else f"licenses/{licence}/4.0/"
        return {
            "id": name, "title": f"Title of {name}", "foreign_landing_url": f"https://photos.example/{name}",
            "url": self.photo_url(name), "creator": None if number % 5 == 4 else f"Ann {number}",
            "creator_url": None if number % 5 == 4 else f"https://photos.example/ann{number}",
            "license": licence, "license_version": version, "provider": "flickr", "source": "flickr",
            "license_url": licence and f"https://creativecommons.org/{address}", "category": None, "filesize": None,
            "attribution": f'"Title" by Ann {number} is licensed under {licence}.', "mature": False,
            "width": 100 if name.startswith("tiny") else None, "height": None,
        }  # fmt: skip


class Gallery(Openverse):
    """Serves the pictures of a folder of class folders by the classes' names."""

    def __init__(self, folder, **how):
        self.files = {f"{path.parent.name}-{path.stem}": path for path in sorted(folder.glob("*/*"))}
        catalogue = {}
        for name, path in self.files.items():
            catalogue.setdefault(path.parent.name, []).append((name, "by"))
        super().__init__(catalogue, **how)

    def photo(self, handler, asked):
        path = self.files.get(unquote(asked.path).removeprefix("/photos/").removesuffix(".jpg"))
        handler.answer(path.read_bytes() if path else "", 200 if path else 404)


class Wikimedia(Site):
    """catalogue: {query or category: [(name, code, licence's address)]}.  lags: so many answers say maxlag first."""

    path = "/w/api.php"

    def __init__(self, catalogue, lags=0, page_size=50, **how):
        self.catalogue, self.lags, self.page_size = catalogue, lags, page_size
        super().__init__(**how)

    @property
    def base_url(self):
        return f"{self.url}/w/api.php"

    def search(self, handler, asked):
        asks = asked.params
        agent = asked.headers.get("user-agent", "")
        if agent.startswith("python-requests") or "@" not in agent:
            return handler.answer("Please set a user agent", 403)
        if asks.get("iiurlwidth") not in ("330", "500", "960"):
            return handler.answer("Use thumbnail steps listed on https://w.wiki/GHai", 429)
        if self.lags:
            self.lags -= 1
            error = {"code": "maxlag", "info": "Waiting for a database server: 6 seconds lagged."}
            return handler.answer({"error": error}, headers={"Retry-After": 1})
        if asks["generator"] == "search":
            query, key = asks["gsrsearch"].removeprefix("filetype:bitmap "), "gsroffset"
        else:
            query, key = asks["gcmtitle"], "gcmcontinue"
        if query == "Category:":
            return handler.answer({"error": {"code": "invalidtitle", "info": "Bad title."}})
        found, start = self.catalogue.get(query, []), int(asks.get(key, "0").removeprefix("file|"))
        size = min(self.page_size, int(asks.get("gsrlimit", asks.get("gcmlimit", 10))))
        rows = [self.page(start + number, *row) for number, row in enumerate(found[start : start + size])]
        answer = {"batchcomplete": True, "query": {"pages": rows[::-1]}} if rows else {"batchcomplete": True}
        if start + size < len(found):
            on = start + size if key == "gsroffset" else f"file|{start + size}"
            answer["continue"] = {key: on, "continue": f"{key}||"}
        return handler.answer(answer)

    def page(self, number, name, code, address):
        said = {"Artist": {"value": f'<a href="//x">Ann&nbsp;&amp; <b>{number}</b></a>'}, "License": {"value": code}}
        said |= {"LicenseUrl": {"value": address}} if address else {}
        info = {
            "width": 3000, "height": 2000, "url": self.photo_url(f"original-{name}"), "mime": "image/jpeg",
            "thumburl": self.photo_url(name), "descriptionurl": f"https://commons.example/wiki/File:{name}.jpg",
            "user": "Uploader", "mediatype": "BITMAP", "extmetadata": said,
        }  # fmt: skip
        info |= {"mime": "image/svg+xml"} if name.startswith("drawing") else {}
        page = {"pageid": 1000 + number, "ns": 6, "title": f"File:{name}.jpg", "index": number + 1}
        return page | ({} if name.startswith("bare") else {"imageinfo": [info]})


class INaturalist(Site):
    """catalogue: {taxon: [[(name, code), …photos of one observation]]}."""

    path = "/v1/observations"

    def __init__(self, catalogue, page_size=200, **how):
        self.catalogue, self.page_size, self.html_first = catalogue, page_size, False
        super().__init__(**how)

    @property
    def base_url(self):
        return f"{self.url}/v1/"

    def search(self, handler, asked):
        if self.html_first:
            self.html_first = False
            return handler.answer("<html>Too many requests</html>", 429)
        asks = asked.params
        licences = asks.get("photo_license", "").split(",")
        size, above = min(self.page_size, int(asks["per_page"])), int(asks["id_above"])
        found = [
            (number, photos)
            for number, photos in enumerate(self.catalogue.get(asks["taxon_name"], []), 1)
            # As the real one: an observation comes with all its photos if one has the licence.
            if number > above and (licences == [""] or any(code in licences for _, code in photos))
        ]
        rows = [self.observation(number, photos) for number, photos in found[:size]]
        return handler.answer({"total_results": len(found), "page": 1, "per_page": size, "results": rows})

    def observation(self, number, photos):
        return {
            "id": number, "uri": f"https://www.inaturalist.org/observations/{number}", "quality_grade": "research",
            "license_code": "cc-by", "user": {"login": f"ann{number}"},
            "photos": [
                {
                    "id": 10 * number + place, "license_code": code, "attribution": f"(c) Ann ({code})", "flags": [],
                    "original_dimensions": {"width": 2048, "height": 1536},
                    "url": f"{self.url}/photos/{name}/square.jpg",
                }
                for place, (name, code) in enumerate(photos)
            ],
        }  # fmt: skip

    def photo(self, handler, asked):
        assert asked.path.endswith("/medium.jpg")
        super().photo(handler, asked._replace(path=asked.path.replace("/medium.jpg", ".jpg")))


FLICKR_LICENCES = {
    "0": ("All Rights Reserved", ""),
    "2": ("By-NC", "https://creativecommons.org/licenses/by-nc/2.0/"),
    "4": ("Attribution", "https://creativecommons.org/licenses/by/2.0/"),
    "7": ("No known restrictions", "https://www.flickr.com/commons/usage/"),
    "9": ("CC0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "12": ("Attribution 4.0", BY),
}


class Flickr(Site):
    """catalogue: {query: [(name, number of the licence)]}, of which it serves the first `served`, then repeats."""

    path = "/services/rest/"

    def __init__(self, catalogue, key="sesame", served=4000, **how):
        self.catalogue, self.key, self.served = catalogue, key, served
        super().__init__(**how)

    @property
    def base_url(self):
        return f"{self.url}/services/rest/"

    def search(self, handler, asked):
        asks = asked.params
        if asks.get("api_key") != self.key:
            message = "Invalid API Key (Key has invalid format)"
            return handler.answer({"stat": "fail", "code": 100, "message": message})
        if asks["method"] == "flickr.photos.licenses.getInfo":
            rows = [{"id": id, "name": name, "url": url} for id, (name, url) in FLICKR_LICENCES.items()]
            return handler.answer({"licenses": {"license": rows}, "stat": "ok"})
        wanted = asks.get("license", ",".join(FLICKR_LICENCES)).split(",")
        found = [
            row for row in self.catalogue.get(asks["text"], []) if row[1] in wanted or row[0].startswith("planted")
        ]
        page, size = int(asks["page"]), int(asks["per_page"])
        last = max(1, -(-min(self.served, len(found)) // size))
        start = (min(page, last) - 1) * size
        rows = [self.row(*row) for row in found[start : min(start + size, self.served)]]
        answer = {
            "page": page,
            "pages": -(-len(found) // size),
            "perpage": size,
            "total": str(len(found)),
            "photo": rows,
        }
        return handler.answer({"photos": answer, "stat": "ok"})

    def row(self, name, licence):
        return {"id": name, "owner": "12@N00", "license": licence, "ownername": "Ann", "url_m": self.photo_url(name)}


class Google(Site):
    """catalogue: {query: [name]}.  walled: it sends to a page that asks whether we are a robot."""

    path = "/search"

    def __init__(self, catalogue, walled=False, page_size=100, **how):
        self.catalogue, self.page_size = catalogue, page_size
        super().__init__(**how)
        self.routes["/sorry/index"] = lambda handler, _: handler.answer("<html>unusual traffic</html>", 429)
        if walled:
            self.routes[self.path] = lambda handler, _: handler.answer("", 302, {"Location": "/sorry/index"})

    @property
    def base_url(self):
        return f"{self.url}/search"

    def search(self, handler, asked):
        asks = asked.params
        assert asks["tbm"] == "isch"
        start = int(asks["ijn"]) * self.page_size
        found = self.catalogue.get(asks["q"], [])[start : start + self.page_size]
        rows = [self.row(number, name) for number, name in enumerate(found)]
        data = (
            json.dumps([None, "GRID_STATE0", rows], separators=(",", ":"))
            .replace("=", r"\u003d")
            .replace("&", r"\u0026")
        )
        handler.answer(f"""<!doctype html><html><head>
            <script>var logo='https://www.google.com/images/branding/logo.png';</script></head>
            <body><img src="data:image/gif;base64,R0lGODlhAQABAIAAAP==">
            <script>AF_initDataCallback({{key: 'ds:0', hash: '1', data:[], sideChannel: {{}}}});</script>
            <script>AF_initDataCallback({{key: 'ds:1', hash: '2', data:{data}, sideChannel: {{}}}});</script></body>""")

    def row(self, number, name):
        small = [f"https://encrypted-tbn0.gstatic.com/images?q=tbn:{number}&s", 194, 259]
        page = {"2000": [None, "photos.example", "68KB"], "2003": [None, "x", f"https://photos.example/{name}", name]}
        return [1, [0, name, small, [f"{self.photo_url(name)}?a=1&b=\u00e9", 1080, 1920], None, 0, "rgb(1,2,3)", page]]


class Bing(Site):
    """catalogue: {query: [name]}, of which the last come again and again where there are no more."""

    path = "/images/async"

    def __init__(self, catalogue, page_size=35, **how):
        self.catalogue, self.page_size = catalogue, page_size
        super().__init__(**how)

    @property
    def base_url(self):
        return f"{self.url}/images/async"

    def search(self, handler, asked):
        found = self.catalogue.get(asked.params["q"], [])
        start = min(int(asked.params["first"]), max(0, len(found) - self.page_size))
        links = "".join(map(self.link, found[start : start + self.page_size]))
        handler.answer(f'<ul class="dgControl_list">{links}</ul><div class="imgpt"><span>an advertisement</span></div>')

    def link(self, name):
        said = {"murl": f"{self.photo_url(name)}?width=1&x=.jpg", "purl": f"https://photos.example/{name}", "t": name}
        said |= {"turl": "https://tse1.mm.bing.net/th?id=OIP.x&pid=15.1"}
        href, told = f"/images/search?view=detailV2&amp;mediaurl={name}", html.escape(json.dumps(said))
        return f'<li><div class="imgpt"><a class="iusc" m="{told}" href="{href}"></a></div></li>'
