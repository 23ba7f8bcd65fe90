"""Draws films: of one colour a scene, or of any pictures."""

from fractions import Fraction

import av
import numpy as np
from PIL import Image

RATE = 10  # frames a second
SIZE = 96, 64  # px
CODECS = {"mp4": "libx264", "mkv": "libx264", "ts": "libx264", "avi": "mpeg4", "webm": "libvpx", "mov": "mpeg4"}
CODECS |= {"wmv": "wmv2", "mpg": "mpeg2video", "flv": "flv"}


def colours(*names, count=RATE, size=SIZE):
    """A picture a frame: so many of each colour."""
    return [Image.new("RGB", size, name) for name in names for _ in range(count)]


def draw_film(path, pictures, rate=RATE, times=None, turned=0, aspect=None, sound=False, keyframes=RATE):
    """Write a film of pictures of one size.

    times: ms at which each is shown; None: as the rate says.  turned: degrees that players turn it counter-clockwise.
    aspect: width of a pixel by its height.  sound: with a second of silence.  keyframes: frames from one to the next.
    """
    # PyAV would take the suffix's format.
    with av.open(str(path), "w") as film:
        stream = film.add_stream(CODECS[path.suffix[1:]], rate=25 if path.suffix == ".mpg" else rate)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt, stream.gop_size, stream.codec_context.max_b_frames = "yuv420p", keyframes, 0
        if times:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if turned:
            stream.set_display_rotation(turned)
        silence = film.add_stream("aac", rate=48_000, layout="mono") if sound else None
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_image(picture)
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
        if silence:
            _mute(film, silence)
    return path


def draw_sound(path):
    """Write a second of silence, without pictures."""
    with av.open(str(path), "w") as film:
        _mute(film, film.add_stream("aac", rate=48_000, layout="mono"))
    return path


def _mute(film, stream):
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), "fltp", "mono")
    frame.sample_rate = 48_000
    film.mux(stream.encode(frame))
    film.mux(stream.encode())
