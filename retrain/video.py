"""From a film to upright RGB frames and their times: decoded as a stream, in memory that does not grow with its length.

FFmpeg, by way of PyAV, decodes in a process of its own, which may crash or hang, and can open no other file than the
film: a playlist that names one is refused, and would find neither files nor the network.
"""

import importlib
import math
import pkgutil
from contextlib import closing, contextmanager
from importlib.util import find_spec

from retrain import sandbox
from retrain.errors import RetrainError
from retrain.images import COSTLY_PIXELS, DRAFT_SIDE, SNIFF_BYTES, ImageError, open_regular, picture_of, sniff
from retrain.parallel import cores

MAX_PIXELS = 36_000_000  # 36 MP a frame, which takes 8K
MEMORY_LIMIT = 1_500_000_000  # bytes; a decoder of 8K holds some ten frames
THREADS = 4  # each holds a frame of its own
FRAME_SECONDS = 20.0  # for a single frame
DENSEST_S = 0.004  # frames nearer to one another than this are passed over
RESET_S = 1.0  # times that go back by more begin anew, as where two recordings were joined
DEMUX_FAILURES = 100  # in a row
DEFAULT_RATE = 25.0  # frames a second, where neither frames nor film tell their times

# What FFmpeg may be asked to read: containers that hold their frames themselves, and codecs that cameras, phones and
# the web have written.  It knows some hundred more, and some that open further files.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,mxf,dv,rm"
CODECS = (
    "h264,hevc,vp8,vp9,libdav1d,av1,mpeg4,mpeg2video,mpeg1video,mjpeg,mjpegb,theora,wmv1,wmv2,wmv3,vc1,prores,dnxhd,"
    "msmpeg4,msmpeg4v1,msmpeg4v2,h261,h263,h263p,flv,vp6,vp6f,vp7,svq1,svq3,cinepak,indeo5,rv30,rv40,dvvideo,qtrle,"
    "rawvideo,ffv1,huffyuv,utvideo,rpza,smc"
)
CODEC_OPTIONS = {"codec_whitelist": CODECS, "max_pixels": str(MAX_PIXELS)}
OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none", **CODEC_OPTIONS}


def is_film(path):
    """Whether a file's content is a film; False where it cannot be read."""
    try:
        with open(path, "rb", opener=open_regular) as file:
            data = file.read(SNIFF_BYTES)
        return sniff(data).startswith("video/") or _is_transport_stream(data)
    except (OSError, ValueError, ImageError):
        return False


def _is_transport_stream(data):
    """Whether these are packets of an MPEG transport stream, which libmagic often does not know; camcorders write them.

    ISO/IEC 13818-1: 188 bytes, of which the first is 0x47; on Blu-ray and AVCHD a time of four bytes stands before.
    """
    return any(len(data) > 4 * size and set(data[start::size]) == {0x47} for start, size in ((0, 188), (4, 192)))


def require_pyav():
    """Raise RetrainError where it is missing."""
    if not find_spec("av"):
        raise RetrainError(
            "films need PyAV, which is not installed.",
            "pip install 'retrain[video]'; in a container, name the film itself.",
        )


class Film:
    """A film that is being decoded.  duration_s: announced, or None; rate: frames a second; size: px, upright."""

    def __init__(self, header, messages):
        self.duration_s, self.rate, self.size = header["duration_s"], header["rate"], tuple(header["original_size"])
        self.end_s = self.decoded = self.damaged = None  # known after the last frame
        self._messages = messages

    def frames(self):
        """Yield (time_s, PIL image of mode RGB), the first time 0 or a little later.  Raises ImageError.

        Large frames come scaled down, as pictures do.  At the end, end_s, decoded (frames) and damaged (parts of the
        file that yielded none) are set.
        """
        for fields, pixels in self._messages:
            if "end_s" in fields:
                self.end_s, self.decoded, self.damaged = fields["end_s"], fields["decoded"], fields["damaged"]
            else:
                yield fields["time_s"], picture_of(fields, pixels)


@contextmanager
def open_film(path, every_s=0.0):
    """Film of a file.  every_s: seconds from one frame that is wanted to the next, at least; 0: every frame.

    Raises ImageError where it is no film or yields no frame, and RetrainError without PyAV.
    """
    require_pyav()
    messages = _messages(path, every_s)
    try:
        header, _ = next(messages)
        yield Film(header, messages)
    finally:
        messages.close()


def _messages(path, every_s):
    """What `decode` yields in the sandbox, and what goes wrong as ImageError."""
    try:
        with open(path, "rb", opener=open_regular) as file:
            answers = sandbox.stream("retrain.video:decode", file, FRAME_SECONDS, MEMORY_LIMIT, every_s=every_s)
            with closing(answers):
                for fields, data in answers:
                    if "reason" in fields:
                        raise ImageError(fields["reason"], fields["detail"])
                    yield fields, data
    except sandbox.SlowError as error:
        raise ImageError("too_slow", str(error)) from error
    except sandbox.CrashError as error:
        raise ImageError("corrupt", f"the decoder crashed: {error}") from error
    except (OSError, ValueError) as error:
        raise ImageError("unreadable", getattr(error, "strerror", None) or str(error)) from error


def decode(file, every_s):
    """What Film reads, as JSON and bytes: runs in the sandbox.

    {"duration_s", "rate", "original_size"}, then {"time_s", "size"} with the pixels of each frame, then {"end_s",
    "decoded", "damaged"}; where it cannot go on, {"reason", "detail"}.
    """
    import av

    _load_all(av)
    sandbox.forbid_files()
    try:
        with av.open(file, options=OPTIONS, metadata_errors="replace") as container:
            yield from _decode(container, every_s)
    except MemoryError:
        yield _refusal("too_large", "not enough memory")
    except (av.FFmpegError, OSError) as error:  # the latter where it is led to read before the file's beginning
        yield _refusal("corrupt", error.strerror or str(error))


def _load_all(package):
    """Import what PyAV would import when it needs it: then no file can be opened any more."""
    importlib.import_module("numpy")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)


def _refusal(reason, detail):
    return {"reason": reason, "detail": detail}, b""


def _decode(container, every_s):
    stream = _stream(container)
    if stream is None:
        yield _refusal("unsupported", "it holds no moving pictures")
        return
    megapixels = stream.codec_context.width * stream.codec_context.height / 1e6
    if megapixels > MAX_PIXELS / 1e6:
        yield _refusal("too_large", f"frames of {megapixels:.0f} megapixels, the limit is {MAX_PIXELS / 1e6:.0f}")
        return
    stream.codec_context.options = CODEC_OPTIONS
    stream.thread_type, stream.codec_context.thread_count = "AUTO", min(cores(), THREADS)
    clock, frames = _Clock(container, stream), _Frames(container, stream)
    scale, wanted, last = _scaler(stream), max(every_s, DENSEST_S), -1
    for frame in frames:
        if frame is None:
            yield None
            continue
        time_s = clock.time(frame)
        tick = math.floor(time_s / wanted + 1e-6)
        if tick > last:
            pixels, original_size = scale(frame)
            if last < 0:
                yield {"duration_s": clock.duration_s, "rate": clock.rate, "original_size": original_size}, b""
            yield {"time_s": time_s, "size": pixels.shape[1::-1]}, pixels.tobytes()
            last = tick
    if last < 0:
        yield _refusal("corrupt", "none of its frames can be decoded")
    else:
        yield {"end_s": clock.end_s, "decoded": frames.decoded, "damaged": frames.damaged}, b""


def _stream(container):
    """The film of a container, not a song's cover; None where it has none."""
    from av.stream import Disposition

    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    return streams[0] if streams and streams[0].codec_context else None


class _Frames:
    """Iterates over the frames that can be decoded, with None for each part of the film that yields no frame."""

    def __init__(self, container, stream):
        self.container, self.stream = container, stream
        self.decoded = self.damaged = 0

    def __iter__(self):
        import av

        packets, failures = self.container.demux(self.stream), 0
        while failures < DEMUX_FAILURES:
            try:
                packet = next(packets, None)
            except EOFError:
                return
            except (av.FFmpegError, OSError):
                failures, packets = failures + 1, self.container.demux(self.stream)
                self.damaged += 1
                continue
            if packet is None:
                return
            failures = 0
            try:
                frames = packet.decode()
            except EOFError:
                return
            except av.FFmpegError:
                frames = []
                self.damaged += 1
            self.decoded += len(frames)
            yield from frames
            yield None


class _Clock:
    """When frames are shown: seconds from the film's beginning, which never go back."""

    def __init__(self, container, stream):
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        self.rate = float(rate) if rate else DEFAULT_RATE
        self.duration_s = _duration(container, stream)
        self.end_s = 0.0
        self._start = -(container.start_time or 0) / 1e6  # added to each time
        self._last = 0.0

    def time(self, frame):
        if frame.time is None:
            time_s = self.end_s
        else:
            if frame.time + self._start < self._last - RESET_S:
                self._start = self.end_s - frame.time
            time_s = max(frame.time + self._start, self._last)
        lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 1 / self.rate
        self._last, self.end_s = time_s, time_s + lasts
        return time_s


def _duration(container, stream):
    """Seconds that a film announces, or None.  The sound may be longer than the film."""
    start_s = (container.start_time or 0) / 1e6
    if stream.duration and stream.time_base:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - start_s
    return container.duration / 1e6 if container.duration and container.duration > 0 else None


def _scaler(stream):
    """A function from a frame to (upright pixels uint8 (H, W, 3), (width, height) before they were scaled down)."""
    import numpy as np
    from av.video.reformatter import Interpolation, VideoReformatter

    reformatter = VideoReformatter()

    def scale(frame):
        # Pixels need not be square: those of a DVD are as often wide as high.
        aspect = stream.sample_aspect_ratio or 1
        width, height = max(1, round(frame.width * min(max(aspect, 0.1), 10))), frame.height
        factor = max(1, min(width, height) // DRAFT_SIDE, math.ceil(math.sqrt(width * height / COSTLY_PIXELS)))
        small = reformatter.reformat(
            frame, max(1, width // factor), max(1, height // factor), "rgb24",
            interpolation=Interpolation.AREA, threads=1,
        )  # fmt: skip
        # Phones film lying down, and say how to turn it; counter-clockwise, here and there.
        quarters = round(frame.rotation / 90) % 4
        return np.rot90(small.to_ndarray(), quarters), (height, width) if quarters % 2 else (width, height)

    return scale
