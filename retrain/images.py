"""From a file to upright RGB pixels: the one decoder of every command.

A picture comes back or an ImageError that names one of REASONS.  Content decides, never the file's name.  Ordinary
JPEG, PNG, WebP, GIF and BMP are decoded in this process, by code that browsers run all day; other formats, and whatever
asks for much time or memory, in a sandbox.
"""

import importlib
import io
import math
import os
import threading
import time
import warnings
from functools import cache
from stat import S_ISREG

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from retrain import sandbox
from retrain.errors import RetrainError

# Bump when the same file may decode to other pixels: stored embeddings then count as new.
DECODER_VERSION = 2

MAX_PIXELS = 50_000_000  # 50 MP; a bomb of a few bytes can claim far more
MAX_JPEG_PIXELS = 200_000_000  # 200 MP; JPEGs of this size come from phones and decode at reduced scale
MAX_WEBP_PIXELS = 32_000_000  # 32 MP; Pillow takes 20 bytes a pixel for it
MAX_BYTES = 200_000_000  # 200 MB a file
DECODE_SECONDS = 4.0  # with all else that a file needs it stays under five
DRAFT_SIDE = 512  # px; large pictures are scaled down to a shorter side of this to twice this
SNIFF_BYTES = 4096
THUMBNAIL_SIDE = 64  # px

# Beyond these a picture is costly: decoded in the sandbox, one at a time.
COSTLY_PIXELS = 13_000_000  # 13 MP
COSTLY_BYTES = 32_000_000  # 32 MB
COSTLY_READS = 20_000  # Pillow reads headers in Python, marker by marker: a millisecond takes it about a thousand
SCANS_A_PIXEL = 25  # so many scans of a JPEG take as long as one picture of its size

# What libmagic calls it → the only Pillow plugin that may open it.
FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/x-ms-bmp": "BMP",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
    "image/heic": "HEIF",
    "image/heif": "HEIF",
    "image/heic-sequence": "HEIF",
    "image/heif-sequence": "HEIF",
    "image/x-portable-bitmap": "PPM",
    "image/x-portable-greymap": "PPM",
    "image/x-portable-graymap": "PPM",
    "image/x-portable-pixmap": "PPM",
}
PLUGINS = {"BMP": "Bmp", "GIF": "Gif", "JPEG": "Jpeg", "PNG": "Png", "PPM": "Ppm", "TIFF": "Tiff"}
PLUGINS["WEBP"] = "WebP"
PLAIN = "JPEG", "PNG", "WEBP", "GIF", "BMP"  # decoded in this process

REASONS = {
    "empty": "the file holds no bytes",
    "not_an_image": "the content is no picture",
    "truncated": "the file ends too early",
    "corrupt": "the content is damaged",
    "too_large": "more pixels or bytes than is safe to decode",
    "too_small": "fewer pixels than asked for",
    "too_slow": "decoding takes too long",
    "unsupported": "a picture of a kind that is not read",
    "unreadable": "the file could not be read",
    "no_face": "no face was found on it",
    "several_faces": "several faces, and none much larger than the others",
}

_one_costly = threading.Lock()
_thread = threading.local()


class ImageError(RetrainError):
    """A file that yields no picture.  reason: a key of REASONS; detail: what the decoder said."""

    def __init__(self, reason, detail=""):
        super().__init__(f"{reason} ({detail or REASONS[reason]})")
        self.reason, self.detail = reason, detail


def read(path):
    """Bytes of a regular file.  Raises ImageError: `unreadable`, or what a large file shows at its beginning."""
    try:
        with open(path, "rb", opener=open_regular) as file:
            size = os.fstat(file.fileno()).st_size
            if size > COSTLY_BYTES:
                _format(file.read(SNIFF_BYTES))  # most such files are films, which need not be read for that
                file.seek(0)
            if size > MAX_BYTES:
                raise ImageError("too_large", f"{size / 1e6:.0f} MB, the limit is {MAX_BYTES / 1e6:.0f} MB")
            return file.read()
    except (OSError, ValueError) as error:
        raise ImageError("unreadable", getattr(error, "strerror", None) or str(error)) from error


def sniff(data):
    """Media type of the content, such as `image/jpeg`, by libmagic."""
    if not hasattr(_thread, "magic"):
        import pylibmagic  # noqa: F401, I001 - makes python-magic find the libmagic that it brings
        import magic

        _thread.magic = magic.Magic(mime=True)  # one a thread: libmagic's handle is not shared
    try:
        return _thread.magic.from_buffer(data[:SNIFF_BYTES])
    except Exception as error:  # libmagic gives up on some hostile headers
        raise ImageError("not_an_image", str(error)) from error


def decode(data):
    """Upright RGB picture of an encoded file's bytes: first frame, orientation applied, alpha laid on white.

    Returns a PIL image of mode RGB, whose info["original_size"] is (width, height) before scaling.  Large pictures come
    scaled down, their shorter side still DRAFT_SIDE px or more (less only where they would be long as a ribbon).
    ICC profiles are not applied.  A truncated file is refused, however much of it would show: what is missing would be
    gray, and a download that broke off is better fetched again.  Raises ImageError.
    """
    name, start = _format(data), time.monotonic()
    try:
        try:
            return _decode_here(data, name) if name in PLAIN else _decode_apart(data, name)
        except _CostlyError:
            left = DECODE_SECONDS - (time.monotonic() - start)
            with _one_costly:
                return _decode_apart(data, name, left, costly=True)
    except ImageError as error:
        if error.reason == "corrupt" and _is_cut(data, name):
            raise ImageError("truncated", error.detail) from error
        raise


def to_input(image, size, crop):
    """Network input of a decoded picture: centre crop of `crop` of the shorter side, bicubic to size × size.

    Returns uint8 (size, size, 3).
    """
    side = min(image.size) * crop
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def resizing_kernel(before, after):
    """float32 (before, after): a row of pixels times it is that row as Pillow resizes it, bicubically."""
    rows = Image.fromarray(np.eye(before, dtype=np.float32))
    return np.asarray(rows.resize((after, before), Image.Resampling.BICUBIC))


def thumbnail(image):
    """The middle of a decoded picture, gray and small: uint8 (THUMBNAIL_SIDE²,)."""
    side = 0.875 * min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    small = image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=2)
    return np.asarray(small.convert("L")).ravel()


def open_regular(path, flags):
    """Opener for `open`: raises OSError where the path is no regular file."""
    # Without waiting, because opening a FIFO would hang until somebody writes to it.
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "not a regular file")
    return descriptor


class _CostlyError(Exception):
    """Decoding takes much time or memory, and that was not allowed."""


class _Reader(io.BytesIO):
    """Counts the reads, which bounds Pillow's loops: each turn of theirs reads something."""

    def __init__(self, data):
        super().__init__(data)
        self.left, self.last = COSTLY_READS, 0

    def read(self, size=-1):
        self.left -= 1
        if self.left < 0:
            raise _CostlyError
        content = super().read(size)
        self.last = len(content)
        return content


def _format(data):
    """Name of the Pillow plugin for the content.  Raises ImageError."""
    if not data:
        raise ImageError("empty")
    media_type = sniff(data)
    if media_type not in FORMATS:
        reason = "unsupported" if media_type.startswith("image/") else "not_an_image"
        raise ImageError(reason, f"the content is {media_type}")
    return FORMATS[media_type]


def _decode_apart(data, name, limit_s=DECODE_SECONDS, costly=False):
    """The same as _decode_here, in the sandbox."""
    try:
        answer, pixels = sandbox.run("retrain.images:_answer", data, max(limit_s, 0.1), name=name, costly=costly)
    except sandbox.SlowError as error:
        raise ImageError("too_slow", str(error)) from error
    except sandbox.CrashError as error:
        raise ImageError("corrupt", f"the decoder crashed: {error}") from error
    except OSError as error:
        raise ImageError("unreadable", f"no process can be started to decode it: {error.strerror}") from error
    if answer.get("costly"):
        raise _CostlyError
    image = picture_of(answer, pixels)
    image.info["original_size"] = tuple(answer.get("original_size", image.size))
    return image


def picture_of(answer, pixels):
    """The picture that the sandbox sends.  Raises ImageError where it sends a reason instead, or no picture."""
    try:
        if "reason" in answer:
            raise ImageError(answer["reason"], answer["detail"])
        width, height = answer["size"]
        if len(pixels) == 3 * width * height:
            return Image.frombytes("RGB", (width, height), pixels)
    except (KeyError, TypeError, ValueError):
        pass
    raise ImageError("corrupt", "the decoder sent no picture")


def _answer(data, name, costly):
    """What _decode_here returns or raises, as JSON and bytes: runs in the sandbox."""
    try:
        image = _decode_here(data, name, costly)
    except _CostlyError:
        return {"costly": True}, b""
    except ImageError as error:
        return {"reason": error.reason, "detail": error.detail}, b""
    return {"size": image.size, "original_size": image.info["original_size"]}, image.tobytes()


def _decode_here(data, name, costly=False):
    """Decode with the plugin of that name.  Raises ImageError, and _CostlyError unless that is allowed."""
    try:
        _load_plugin(name)
        if len(data) > COSTLY_BYTES and not costly:
            raise _CostlyError
        reader = io.BytesIO(data) if costly else _Reader(data)
        with Image.open(reader, formats=[name]) as image:
            _check_size(image)
            original_size = image.size
            scans = 1 if costly else _count_scans(image, reader)
            image.draft(None, _draft_size(*image.size))
            if not costly and _cost(image, original_size, scans) > COSTLY_PIXELS:
                raise _CostlyError
            upright = _upright_rgb(image)
    except (ImageError, _CostlyError):
        raise
    except MemoryError as error:
        raise ImageError("too_large", "not enough memory") from error
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", str(error)) from error
    except UnidentifiedImageError as error:  # its text holds a memory address
        raise ImageError("corrupt", "the header is damaged or of an unknown kind") from error
    except (OSError, ValueError, SyntaxError, EOFError, RuntimeError) as error:
        raise ImageError(_reason(error), str(error)) from error
    except Exception as error:  # plugins raise whatever a damaged file leads them to
        raise ImageError("corrupt", f"{type(error).__name__}: {error}") from error
    turned = (upright.width > upright.height) != (original_size[0] > original_size[1])
    upright.info["original_size"] = original_size[::-1] if turned else original_size
    return upright


@cache
def _load_plugin(name):
    # By hand, because Image.open would else import all of Pillow's forty formats.
    if name == "HEIF":
        import pi_heif

        pi_heif.register_heif_opener(decode_threads=1)  # one thread: several pictures are decoded at once
    elif name == "AVIF":
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    else:
        importlib.import_module(f"PIL.{PLUGINS[name]}ImagePlugin")
    Image.MAX_IMAGE_PIXELS = MAX_JPEG_PIXELS // 2  # refused at twice that, by plugins that allocate while opening
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    warnings.filterwarnings("ignore", module="PIL")  # what matters is in the reason


def _check_size(image):
    pixels = image.width * image.height
    limit = {"JPEG": MAX_JPEG_PIXELS, "MPO": MAX_JPEG_PIXELS, "WEBP": MAX_WEBP_PIXELS}.get(image.format, MAX_PIXELS)
    if image.info.get("progressive"):
        limit = MAX_PIXELS  # libjpeg holds all of it in memory
    if pixels > limit:
        raise ImageError("too_large", f"{pixels / 1e6:.0f} megapixels, the limit is {limit / 1e6:.0f}")
    if pixels == 0:
        raise ImageError("corrupt", "no pixels")


def _count_scans(image, reader):
    """Number of runs over a picture's pixels, at most; to be asked right after opening it."""
    if image.format not in ("JPEG", "MPO"):
        return 1
    # The last that was read is the header of the first scan, which is longer the more components the scan holds.
    if reader.last == 4 + 2 * image.layers and "progressive" not in image.info:
        return 1
    return reader.getvalue().count(b"\xff\xda")


def _cost(image, original_size, scans):
    """Time and memory to decode a picture, as pixels."""
    width, height = original_size if scans > 1 else image.size
    return width * height * max(1, scans / SCANS_A_PIXEL)


def _draft_size(width, height):
    scale = max(1, min(width, height) / DRAFT_SIDE)
    return int(width / scale), int(height / scale)


def _upright_rgb(image):
    image.load()
    # EXIF orientation first: phones store portraits lying down.
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        image = _gray_of_16_bit(image)
    if image.has_transparency_data:
        rgba = _scaled_down(image if image.mode == "RGBA" else image.convert("RGBA"))
        white = Image.new("RGB", rgba.size, "white")
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    if image.mode in ("1", "P"):
        image = image.convert("RGB")
    image = _scaled_down(image)
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "F"):
        return _stretch(np.asarray(image, np.float32)).convert("RGB")
    if image.mode == "LAB":
        to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        return ImageCms.applyTransform(image, to_srgb)
    return image.convert("RGB")


def _scaled_down(image):
    width, height = image.size
    factor = max(1, min(width, height) // DRAFT_SIDE, math.ceil(math.sqrt(width * height / COSTLY_PIXELS)))
    return image.reduce(factor) if factor > 1 else image


def _gray_of_16_bit(image):
    values = np.asarray(image)
    if "transparency" in image.info:  # here, because Pillow clips 16 bit with transparency
        values = np.where(values == image.info["transparency"], np.uint16(65535), values)
    return Image.fromarray((values // 257).astype(np.uint8))


def _stretch(values):
    # 32-bit and floating-point pictures declare no white: their own range becomes 0-255.
    values = np.nan_to_num(values, posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    values = (values - low) * (255 / (high - low)) if high > low else values * 0
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


# What decoders say → the reason; the first that fits.
WORDS = {
    "too_large": ("data too large", "too much memory", "out of memory", "memory allocation", "security limit"),
    "truncated": ("truncated", "unexpected end", "premature", "not enough", "eof", "end of file"),
    "unsupported": ("unsupported", "not supported"),
}


def _reason(error):
    text = str(error).lower()
    return next((reason for reason, words in WORDS.items() if any(word in text for word in words)), "corrupt")


def _is_cut(data, name):
    """Whether the file ends before the end that its own content tells; of formats whose decoders do not say so."""
    end = 0
    if name == "WEBP":
        end = 8 + int.from_bytes(data[4:8], "little")
    elif name in ("AVIF", "HEIF"):
        while end + 8 <= len(data):  # ISO 14496-12: boxes, each beginning with its size
            size = int.from_bytes(data[end : end + 4])
            if size < 8:  # to the end of the file, or written in 64 bits
                return False
            end += size
    return end > len(data)
