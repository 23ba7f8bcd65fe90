"""The application: the dialects, what tells of the server itself, and the guard around all of it."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from retrain import __version__
from retrain.errors import RetrainError
from retrain.serve import guessing, kserve, tf_serving
from retrain.serve.album import MissingError, TakenError
from retrain.serve.engine import BusyError, Engine, NoModelError
from retrain.serve.guard import Guard, Metrics
from retrain.serve.jobs import Jobs, OccupiedError
from retrain.serve.studio_routes import page_file
from retrain.serve.studio_routes import router as studio_routes
from retrain.serve.workshop import Studio

STATUS = {BusyError: 503, NoModelError: 503, MissingError: 404, TakenError: 409, OccupiedError: 409}
STOPPING_S = 5  # for work that goes on
MAX_ERROR = 1000  # characters: errors repeat what was sent
DOCS_FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "favicon.png": "image/png"}
DOCS_SCRIPT = 'SwaggerUIBundle({url: "../openapi.json", dom_id: "#page", deepLinking: true})'
DOCS_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>retrain</title>
<link rel="stylesheet" href="docs/swagger-ui.css"><link rel="icon" href="docs/favicon.png"><div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></html>
"""


def create_app(options):
    """ASGI application of ServeOptions, and its Jobs.  Raises RetrainError where the model is damaged."""
    engine, metrics, jobs = Engine(options), Metrics(), Jobs()
    studio = Studio(options, engine, jobs)

    @asynccontextmanager
    async def lifespan(_app):
        watching = asyncio.create_task(engine.watch())
        yield
        watching.cancel()
        await asyncio.to_thread(jobs.close, STOPPING_S)
        engine.close()
        studio.close()

    app = FastAPI(
        title="retrain", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Guesses of a model that was trained on your own categories.",
    )  # fmt: skip
    app.state.engine, app.state.metrics, app.state.options = engine, metrics, options
    app.state.studio = studio
    for router in (guessing.router, tf_serving.router, kserve.router, studio_routes):
        app.include_router(router)
    _add_own_pages(app)
    _add_errors(app)
    return Guard(app, options, metrics), jobs


def _add_own_pages(app):
    engine, metrics = app.state.engine, app.state.metrics

    @app.get("/", include_in_schema=False)
    async def page():
        return page_file("index.html")

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str):
        return page_file(name)

    @app.get("/health", tags=["server"])
    async def health():
        """Whether the server answers, and which version of the model; 0: there is none yet."""
        return {"status": "ok", "version": engine.version}

    @app.get("/model", tags=["server"])
    async def model():
        """What the model tells apart, and how well."""
        served = engine.served
        info = served.model.info
        return {
            "name": app.state.options.name, "version": served.version, "labels": served.model.classes,
            "backbone": info.get("backbone"), "metrics": info.get("metrics"), "counts": info.get("counts"),
        }  # fmt: skip

    @app.get("/metrics", tags=["server"], response_class=Response)
    async def measured():
        """For Prometheus."""
        metrics.waiting.set(engine.waiting)
        metrics.version.set(engine.version)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", include_in_schema=False)
    async def docs():
        return HTMLResponse(DOCS_PAGE)

    @app.get("/docs/start.js", include_in_schema=False)
    async def docs_script():
        return Response(DOCS_SCRIPT, media_type="text/javascript")

    @app.get("/docs/{name}", include_in_schema=False)
    async def docs_file(name: str):
        if name not in DOCS_FILES:
            raise HTTPException(404)
        return FileResponse(Path(fastapi_offline.__file__).with_name("static") / name, media_type=DOCS_FILES[name])


def _add_errors(app):
    """All errors are {"error": one line}, as TensorFlow Serving and KServe have them."""

    @app.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException):
        return JSONResponse({"error": str(error.detail)[:MAX_ERROR]}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        status = 400 if first["type"].startswith("json") or first["loc"][0] == "body" else 422
        return JSONResponse({"error": f"{where}: {first['msg']}"}, status)

    @app.exception_handler(RetrainError)
    async def failed(_request: Request, error: RetrainError):
        text = f"{error} {error.hint}".strip()
        status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 422)
        return JSONResponse({"error": text}, status, {"retry-after": "1"} if status == 503 else None)
