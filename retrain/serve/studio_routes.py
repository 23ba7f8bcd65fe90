"""The routes of Studio, the page in which one sees a model learn."""

import asyncio
import io
import json
import re
import zipfile
from pathlib import Path as FilePath
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from pydantic import BaseModel, Field

from retrain.exports import FORMATS
from retrain.images import ImageError, decode, read
from retrain.options import default_export
from retrain.recipes.explaining import to_jpeg
from retrain.serve.album import MissingError
from retrain.serve.guessing import form_pictures
from retrain.serve.jobs import END
from retrain.serve.workshop import Studio

PAGE = FilePath(__file__).with_name("studio")
PAGE_FILE = re.compile(r"[a-z-]+\.(html|css|js|svg)")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MOST_PICTURES = 500
ALIVE_EVERY_S = 15
REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"

router = APIRouter(prefix="/studio", include_in_schema=False)  # they are the page's own


class Named(BaseModel):
    name: str = Field(max_length=1000)


class Moved(BaseModel):
    pictures: list[str] = Field(min_length=1, max_length=10_000)
    to: str | None = Field(alias="class")


class Training(BaseModel):
    quality: Literal["fast", "good", "best"] = "fast"


class Sorting(BaseModel):
    folder: str
    mode: Literal["copy", "move"] = "copy"
    dry_run: bool = True


class Exporting(BaseModel):
    format: Literal["saved_model", "keras", "tflite", "tflite-int8", "onnx", "pb", "zip"]


def _studio(request: Request):
    return request.app.state.studio


Shared = Annotated[Studio, Depends(_studio)]


@router.get("/state")
def state(studio: Shared):
    """What the page shows."""
    return studio.state()


@router.get("/events", response_class=StreamingResponse)
async def events(studio: Shared):
    """A line of JSON whenever something happens."""

    async def lines():
        with studio.jobs.listening() as queue:
            while True:
                try:
                    async with asyncio.timeout(ALIVE_EVERY_S):
                        event = await queue.get()
                except TimeoutError:
                    event = {"event": "alive"}
                yield json.dumps(event) + "\n"
                if event == END:
                    return

    return StreamingResponse(lines(), media_type="application/x-ndjson")


@router.post("/classes", status_code=201)
def add_class(studio: Shared, asked: Named):
    """Make a class."""
    return _changed(studio, {"id": studio.album.add_class(asked.name)})


@router.post("/classes/{number}")
def rename_class(studio: Shared, number: str, asked: Named):
    """Give a class another name."""
    return _changed(studio, {"id": studio.album.rename_class(number, asked.name)})


@router.delete("/classes/{number}")
def remove_class(studio: Shared, number: str):
    """Take a class out; undo brings it back."""
    return _changed(studio, {"moved": studio.album.remove_class(number)})


@router.get("/classes/{number}/pictures")
def list_pictures(
    studio: Shared,
    number: str,
    start: Annotated[int, Query(ge=0)] = 0,
    count: Annotated[int, Query(ge=1, le=MOST_PICTURES)] = 60,
):
    """Some of the pictures of a class."""
    name = studio.album.path_of(number).name
    paths = {each.name: each.pictures for each in studio.album.classes()}.get(name, [])
    rows = [_picture(studio, path) for path in paths[start : start + count]]
    return {"total": len(paths), "pictures": rows}


@router.post("/classes/{number}/pictures")
async def add_pictures(request: Request, studio: Shared, number: str):
    """Add pictures to a class: a form with the field `file`, several times."""
    files = await form_pictures(request, studio.options)
    added, refused, known = await asyncio.to_thread(studio.album.add_pictures, number, files)
    return _changed(studio, {
        "added": [_picture(studio, path) for path in added],
        "refused": [{"name": name, "reason": reason} for name, reason in refused], "known": known,
    })  # fmt: skip


@router.get("/pictures/{number}", response_class=Response)
def picture(studio: Shared, number: str, side: Annotated[int, Query(ge=16, le=1024)] = 160):
    """A picture, upright, of at most so many pixels a side."""
    try:
        image = decode(read(studio.album.path_of(number)))
    except ImageError as error:
        raise HTTPException(415, str(error)) from error
    image.thumbnail((side, side))
    return Response(to_jpeg(image), media_type="image/jpeg")


@router.post("/pictures/move")
def move_pictures(studio: Shared, asked: Moved):
    """Put pictures into another class, or out of the data set."""
    return _changed(studio, {"moved": studio.album.move_pictures(asked.pictures, asked.to)})


@router.post("/undo")
def undo(studio: Shared):
    """Undo the last change."""
    return _changed(studio, {"undone": studio.undo()})


@router.post("/train", status_code=202)
def start_training(studio: Shared, asked: Training):
    """Learn from the classes."""
    return studio.jobs.start("train", lambda: studio.train(asked.quality)).as_dict()


@router.post("/suspects", status_code=202)
def start_search(studio: Shared):
    """Look for pictures that harm."""
    return studio.jobs.start("suspects", studio.find_suspects).as_dict()


@router.post("/sort", status_code=202)
def start_sorting(studio: Shared, asked: Sorting):
    """Sort a folder into tf_files/sorted, or tell what that would do."""
    if asked.folder not in studio.folders():
        raise MissingError
    return studio.jobs.start("sort", lambda: studio.sort(asked)).as_dict()


@router.post("/exports", status_code=202)
def start_export(studio: Shared, asked: Exporting):
    """Write the model in another format."""
    return studio.jobs.start("export", lambda: studio.export(asked.format)).as_dict()


@router.get("/exports/{name}", response_class=Response)
def download(studio: Shared, name: Annotated[str, Path(pattern="^[a-z0-9_-]+$")]):
    """An export that was written, as a zip file."""
    folder = default_export() / name
    if name not in FORMATS or not folder.is_dir():
        raise MissingError
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, FilePath(name) / path.relative_to(folder))
    headers = {"content-disposition": f'attachment; filename="{name}.zip"'}
    return Response(stream.getvalue(), media_type="application/zip", headers=headers)


@router.post("/job/stop")
def stop_job(studio: Shared):
    """Ask what runs to end."""
    studio.jobs.stop()
    return {}


@router.post("/report")
def report_address(studio: Shared):
    """Where the report opens, once and within a minute."""
    if not studio.report:
        raise MissingError
    return {"address": f"/studio/report/{studio.ticket()}"}


@router.get("/report/{ticket}", response_class=HTMLResponse)
def report(studio: Shared, ticket: str):
    """The report, for whoever has a ticket."""
    path = studio.redeem(ticket) and studio.report
    if not path:
        raise MissingError
    return HTMLResponse(path.read_bytes(), headers={"content-security-policy": REPORT_POLICY})


def page_file(name):
    """Response with a file of the page.  Raises HTTPException."""
    path = PAGE / name
    if not PAGE_FILE.fullmatch(name) or not path.is_file():
        raise HTTPException(404)
    return Response(path.read_bytes(), media_type=TYPES[path.suffix])


def _changed(studio, answer):
    studio.jobs.tell({"event": "state"})
    return answer


def _picture(studio, path):
    return {"id": studio.album.id_of(path), "name": path.name}
