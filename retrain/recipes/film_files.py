"""What is written of a film: its moments and segments as CSV, JSON and WebVTT, and a contact sheet.

NAME.csv    a row a frame: its time, its own guess, and the guess smoothed over time
NAME.json   what `guess --json` says, and the same rows as "moments"
NAME.vtt    the segments as subtitles, which browsers and players show over the film
NAME.jpg    a frame of each segment
"""

import csv
import html
import io
import json
import math
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from retrain.errors import writing_to
from retrain.recipes.names import Names, safe_name, to_cell

KINDS = {"csv": ".csv", "json": ".json", "vtt": ".vtt", "sheet": ".jpg"}
COLUMNS = ["time_s", "label", "confidence", "unknown", "smoothed_label", "smoothed_unknown"]
CELL = 240, 180  # px, of a frame on the contact sheet
MAX_CELLS = 60  # the longest segments
MIN_CELLS = 12  # where there are fewer segments, frames in between make up for them
MAX_COLUMNS = 5
LINE = 16  # px, of text under a frame
MARGIN = 8  # px
QUALITY = 90  # of JPEG


def clock(seconds, digits=1):
    """`00:03.2`, and `1:00:03.2` from an hour on."""
    units = round(seconds * 10**digits)
    minutes, units = divmod(units, 60 * 10**digits)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes:02}:{units / 10**digits:0{digits + 3}.{digits}f}"
    return f"{hours}:{text}" if hours else text


def caption(segment):
    """What a segment shows, in words."""
    return f"unknown; nearest: {segment['label']}" if segment["unknown"] else segment["label"]


def shrink(image):
    """JPEG of a frame as small as on the contact sheet."""
    cell, stream = image.copy(), io.BytesIO()
    cell.thumbnail(CELL, reducing_gap=2)
    cell.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


class Seen(NamedTuple):
    """A frame, by itself, and its cell of the contact sheet where there is to be one."""

    time_s: float
    label: str
    confidence: float
    unknown: bool
    cell: bytes | None = None


class FilmFiles:
    """The files of one film.  They get their names when all are written; until then they lie in a hidden folder."""

    def __init__(self, out, path, labels):
        self.out, self.path, self.labels = Path(out), Path(path), labels
        self._cells = []  # (segment, Seen), of the longest segments
        self._spread, self._every, self._count = [], 1, 0  # Seen at equal distances, and how far these are apart

    def __enter__(self):
        with writing_to(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            self._part = Path(tempfile.mkdtemp(prefix=".retrain-film-", dir=self.out))
            self._open = ExitStack()
            # Labels are names of folders, which need not be UTF-8.
            table = open(self._part / "csv", "w", newline="", encoding="utf-8", errors="surrogateescape")
            self._open.enter_context(table)
            self._table = csv.DictWriter(table, COLUMNS)
            self._table.writeheader()
            self._rows = self._open.enter_context(open(self._part / "rows", "w+", encoding="utf-8"))
        return self

    def __exit__(self, *_):
        self._open.close()
        shutil.rmtree(self._part, ignore_errors=True)

    def noting(self, smoothed):
        """Yield the moments, whose pictures are what was Seen, and write a row of each."""
        separator = ""
        for moment in smoothed:
            seen = moment.picture
            number = moment.there if moment.is_known else int(moment.probabilities.argmax())
            row = {
                "time_s": round(seen.time_s, 3), "label": seen.label, "confidence": round(seen.confidence, 5),
                "unknown": seen.unknown, "smoothed_label": self.labels[number], "smoothed_unknown": not moment.is_known,
            }  # fmt: skip
            with writing_to(self.out):
                self._table.writerow(row | {name: to_cell(row[name]) for name in ("label", "smoothed_label")})
                self._rows.write(separator + json.dumps(row))
            separator = ",\n"
            self._spread_out(seen)
            yield moment

    def _spread_out(self, seen):
        if self._count % self._every == 0:
            self._spread.append(seen)
        self._count += 1
        if len(self._spread) == 2 * MIN_CELLS:
            self._spread, self._every = self._spread[::2], 2 * self._every

    def keep(self, segment, seen):
        """Have a segment on the contact sheet, unless there are enough that are longer."""
        self._cells.append((segment, seen))
        if len(self._cells) > MAX_CELLS:
            self._cells.remove(min(self._cells, key=lambda pair: pair[0]["end_s"] - pair[0]["start_s"]))

    def finish(self, guess):
        """Give the files their names: {kind: path}.  guess: what `guess --json` says."""
        with writing_to(self.out):
            self._open.close()
            with open(self._part / "json", "w", encoding="utf-8") as file:
                head = {name: value for name, value in guess.items() if name not in KINDS}
                file.write(json.dumps(head | {"moments": []}, indent=1)[: -len("]\n}")] + "\n")
                with open(self._part / "rows", encoding="utf-8") as rows:
                    shutil.copyfileobj(rows, file)
                file.write("\n]}\n")
            (self._part / "vtt").write_text(as_vtt(guess["segments"]), encoding="utf-8")
            draw_sheet(filled_up(self._cells, self._spread)).save(self._part / "sheet", "JPEG", quality=QUALITY)
            return self._place()

    def _place(self):
        names, stem = Names(), safe_name(self.path.stem.encode("utf-8", "replace").decode()) or "film"
        while True:
            name = names.give(stem)
            paths, claimed = {kind: self.out / (name + suffix) for kind, suffix in KINDS.items()}, []
            try:
                for path in paths.values():
                    path.touch(exist_ok=False)
                    claimed.append(path)
                for kind, path in paths.items():
                    (self._part / kind).replace(path)
                    claimed.remove(path)
            except FileExistsError:
                continue
            finally:
                for path in claimed:
                    path.unlink()
            return {kind: str(path) for kind, path in paths.items()}


def as_vtt(segments):
    """The segments as WebVTT (https://www.w3.org/TR/webvtt1)."""
    cues = []
    for segment in segments:
        if segment["end_s"] > segment["start_s"]:
            text = html.escape(_line(caption(segment)), quote=False)
            cues.append(f"{_stamp(segment['start_s'])} --> {_stamp(segment['end_s'])}\n{text}\n")
    return "\n".join(["WEBVTT\n", *cues])


def _stamp(seconds):
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


def _line(text):
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def filled_up(cells, spread):
    """The (segment, Seen) pairs, and where they are few, pairs of what was Seen in between; in the order of time."""
    lacking = min(max(0, MIN_CELLS - len(cells)), len(spread))
    more = [spread[number * len(spread) // lacking] for number in range(lacking)]
    known = {seen.time_s for _, seen in cells}
    pairs = [
        (segment, seen) for seen in more for segment, _ in cells
        if segment["start_s"] <= seen.time_s < segment["end_s"] and seen.time_s not in known
    ]  # fmt: skip
    return sorted(cells + pairs, key=lambda pair: pair[1].time_s)


def draw_sheet(cells):
    """The contact sheet of (segment, Seen) pairs, each with its time and label below."""
    pictures = [Image.open(io.BytesIO(seen.cell)) for _, seen in cells]
    columns, height = min(MAX_COLUMNS, math.ceil(math.sqrt(len(cells)))), max(each.height for each in pictures)
    step = CELL[0] + MARGIN, height + 2 * LINE + 2 * MARGIN
    size = columns * step[0] + MARGIN, math.ceil(len(cells) / columns) * step[1]
    sheet, font = Image.new("RGB", size, "white"), ImageFont.load_default(LINE - 4)
    draw = ImageDraw.Draw(sheet)
    for number, ((segment, seen), picture) in enumerate(zip(cells, pictures, strict=True)):
        left, top = MARGIN + number % columns * step[0], MARGIN + number // columns * step[1]
        sheet.paste(picture, (left + (CELL[0] - picture.width) // 2, top + (height - picture.height) // 2))
        time = f"{clock(seen.time_s)}, of {clock(segment['start_s'])}-{clock(segment['end_s'])}"
        for line, text in enumerate([time, _line(caption(segment))]):
            draw.text((left, top + height + line * LINE + 2), _fitting(text, font), fill="black", font=font)
    return sheet


def _fitting(text, font):
    """The text, cut where a cell ends."""
    if font.getlength(text) <= CELL[0]:
        return text
    while text and font.getlength(text + "…") > CELL[0]:
        text = text[:-1]
    return text + "…"
