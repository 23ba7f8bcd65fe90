"""Guessing what is in a film, and in the same film 20 minutes long: frames a second and peak memory."""

import json
import os
import sys
from pathlib import Path

from benchmarks.common import RETRAIN, medians, run
from retrain.parallel import chunks

LONG_S = 1200
FILM = "video/cockatoo.mp4"  # below RETRAIN_TEST_DATA
DECODE = "import av, sys; print(sum(1 for _ in av.open(sys.argv[1]).decode(video=0)))"


def measure(bench):
    short = Path(os.environ.get("RETRAIN_TEST_DATA", ""), FILM)
    if not short.is_file():
        short = _draw(bench.photos, bench.folder / "short.mp4")
    long = repeat(short, bench.folder / "long.mp4", LONG_S)
    rows = []
    for name, film in (("short", short), ("long", long)):
        ours, peers = [], []
        for _ in range(bench.repeats if film == short else 1):
            ours.append(run(RETRAIN, "imagenet", "--json", film, "--out", bench.fresh()))
            peers.append(run(sys.executable, "-c", DECODE, film))
        seen = json.loads(ours[0].output)
        counts = {"film_s": seen["duration_s"], "frames": seen["frames"], "decoded": seen["decoded"]}
        rows.append({"what": name, **counts, **_with_rates(medians(ours), seen)})
        rows.append({"what": f"{name}: decode alone, PyAV", "film_s": seen["duration_s"], **medians(peers)})
    return {
        "rows": rows,
        "ratios": {
            "long / short, peak memory": round(rows[2]["peak_mb"] / rows[0]["peak_mb"], 2),
            "long, film seconds a second": round(rows[2]["film_s"] / rows[2]["seconds"]),
        },
    }


def _with_rates(row, seen):
    return row | {"frames/s": round(seen["frames"] / row["seconds"])}


def repeat(source, path, least_s):
    """Write a film that shows another again and again for so many seconds, without encoding it anew."""
    import av

    with av.open(str(source)) as film, av.open(str(path), "w") as longer:
        (before,) = film.streams.video
        after, shift, end = longer.add_stream_from_template(before), 0, 0
        while end * before.time_base < least_s:
            film.seek(0)
            for packet in film.demux(before):
                if packet.dts is not None:
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, after
                    end = max(end, packet.pts + packet.duration)
                    longer.mux(packet)
            shift = end
    return path


def _draw(photos, path):
    """Ten seconds of a second a photo."""
    import av
    from PIL import Image

    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for photo in next(chunks(sorted(photos.glob("*/*")), 10)):
            frame = av.VideoFrame.from_image(Image.open(photo).convert("RGB").resize((640, 360)))
            for _ in range(25):
                frame.pts = None
                film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path
