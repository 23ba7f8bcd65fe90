"""From a file to upright RGB pixels: the one decoder of every command.

A picture comes back or an ImageError that names one of REASONS.  Content decides, never the file's name.
"""

import importlib
import io
import os
import struct
import threading
import warnings
import zlib
from functools import cache
from stat import S_ISREG

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from retrain.errors import RetrainError

# Bump when the same file may decode to other pixels: stored embeddings then count as new.
DECODER_VERSION = 1

MAX_PIXELS = 50_000_000  # 50 MP; a bomb of a few bytes can claim far more
MAX_JPEG_PIXELS = 200_000_000  # 200 MP; JPEGs of this size come from phones and decode at reduced scale
MAX_BYTES = 500_000_000  # 500 MB a file
BIG_PIXELS = 20_000_000  # 20 MP; above this pictures are decoded one at a time, to bound memory
DRAFT_SIDE = 512  # px; a JPEG is decoded at the smallest scale whose shorter side keeps twice the network's input
SNIFF_BYTES = 4096
THUMBNAIL_SIDE = 64  # px

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
PLUGINS = {"AVIF": "Avif", "BMP": "Bmp", "GIF": "Gif", "JPEG": "Jpeg", "PNG": "Png", "PPM": "Ppm", "TIFF": "Tiff"}
PLUGINS["WEBP"] = "WebP"

REASONS = {
    "empty": "the file holds no bytes",
    "not_an_image": "the content is no picture",
    "truncated": "the file ends too early",
    "corrupt": "the content is damaged",
    "too_large": "more pixels or bytes than is safe to decode",
    "unsupported": "a picture of a kind that is not read",
    "unreadable": "the file could not be read",
}

_one_big_picture = threading.Lock()
_thread = threading.local()


class ImageError(RetrainError):
    """A file that yields no picture.  reason: a key of REASONS; detail: what the decoder said."""

    def __init__(self, reason, detail=""):
        super().__init__(f"{reason} ({detail or REASONS[reason]})")
        self.reason = reason


def read(path):
    """Bytes of a regular file.  Raises ImageError `unreadable` or `too_large`."""
    try:
        with open(path, "rb", opener=_open_regular) as file:
            size = os.fstat(file.fileno()).st_size
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

    Returns a PIL image of mode RGB; large JPEGs come at 1/2, 1/4 or 1/8 scale with a shorter side of at least
    DRAFT_SIDE px.  ICC profiles are not applied.  A truncated file is refused.  Raises ImageError.
    """
    if not data:
        raise ImageError("empty")
    media_type = sniff(data)
    if media_type not in FORMATS:
        reason = "unsupported" if media_type.startswith("image/") else "not_an_image"
        raise ImageError(reason, f"the content is {media_type}")
    try:
        _load_plugin(FORMATS[media_type])
        with Image.open(io.BytesIO(data), formats=[FORMATS[media_type]]) as image:
            _check_size(image)
            image.draft(None, _draft_size(*image.size))
            if image.width * image.height > BIG_PIXELS:
                with _one_big_picture:
                    return _upright_rgb(image)
            return _upright_rgb(image)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("too_large", "not enough memory") from error
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", str(error)) from error
    except UnidentifiedImageError as error:  # its text holds a memory address
        raise ImageError("corrupt", "the header is damaged or of an unknown kind") from error
    except (OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError, TypeError) as error:
        raise ImageError(_reason(error), str(error)) from error
    except (AttributeError, RuntimeError, NotImplementedError, AssertionError, struct.error, zlib.error) as error:
        raise ImageError("corrupt", f"{type(error).__name__}: {error}") from error


def to_input(image, size, crop):
    """Network input of a decoded picture: centre crop of `crop` of the shorter side, bicubic to size × size.

    Returns uint8 (size, size, 3).
    """
    side = min(image.size) * crop
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def thumbnail(image):
    """The middle of a decoded picture, gray and small: uint8 (THUMBNAIL_SIDE²,)."""
    side = 0.875 * min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    small = image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=2)
    return np.asarray(small.convert("L")).ravel()


def _open_regular(path, flags):
    # Without waiting, because opening a FIFO would hang until somebody writes to it.
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "not a regular file")
    return descriptor


@cache
def _load_plugin(name):
    # By hand, because Image.open would else import all of Pillow's forty formats.
    if name == "HEIF":
        import pi_heif

        pi_heif.register_heif_opener()
    else:
        importlib.import_module(f"PIL.{PLUGINS[name]}ImagePlugin")
    Image.MAX_IMAGE_PIXELS = MAX_JPEG_PIXELS // 2  # refused at twice that, by plugins that allocate while opening
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    warnings.filterwarnings("ignore", module="PIL")  # what matters is in the reason


def _check_size(image):
    pixels = image.width * image.height
    limit = MAX_JPEG_PIXELS if image.format in ("JPEG", "MPO") else MAX_PIXELS
    if pixels > limit:
        raise ImageError("too_large", f"{pixels / 1e6:.0f} megapixels, the limit is {limit / 1e6:.0f}")
    if pixels == 0:
        raise ImageError("corrupt", "no pixels")


def _draft_size(width, height):
    scale = max(1, min(width, height) / DRAFT_SIDE)
    return int(width / scale), int(height / scale)


def _upright_rgb(image):
    image.load()
    # EXIF orientation first: phones store portraits lying down.
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        values = np.array(image.convert("I"), np.float32)
        values[values == image.info.get("transparency")] = 65535  # here, because Pillow clips 16 bit with transparency
        return _gray(values / 257)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "F"):
        return _gray(_stretch(np.asarray(image, np.float32)))
    if image.mode == "LAB":
        to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        return ImageCms.applyTransform(image, to_srgb)
    return image.convert("RGB")


def _stretch(values):
    # 32-bit and floating-point pictures declare no white: their own range becomes 0-255.
    values = np.nan_to_num(values, posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    return (values - low) * (255 / (high - low)) if high > low else values * 0


def _gray(values):
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")


def _reason(error):
    text = str(error).lower()
    if any(words in text for words in ("truncated", "unexpected end", "premature", "not enough", "eof")):
        return "truncated"
    return "unsupported" if any(words in text for words in ("unsupported", "not supported")) else "corrupt"
