"""Broken files to try the decoder on: small drawn pictures in every format that can be written, damaged at random.

The same seed makes the same files, byte for byte.
"""

import contextlib
import io
import os
import socket
import struct
import zlib
from functools import cache
from random import Random

from PIL import Image

from retrain.recipes.sampling import SUBJECTS, draw

HTML = b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>\n"
# Other kinds of files, whole.
STRANGERS = {
    "html": HTML,
    "svg": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>\n',
    "text": b"just some words\n",
    "json": b'{"error": "not found"}',
    "zeros": bytes(5000),
    "gzip": bytes.fromhex("1f8b0800000000000203") + bytes(50),
    "zip": b"PK\3\4\x14" + bytes(60),
    "pdf": b"%PDF-1.4\n%%EOF\n",
    "film": bytes.fromhex("0000001866747970") + b"isom" + bytes(60),
    "photoshop": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(20),
    "program": b"\x7fELF\2\1\1" + bytes(60),
}
EXTENSIONS = [".jpg", ".JPEG", ".png", ".gif", ".webp", ".bmp", ".tif", ".heic", ".avif", ".ppm", ".txt", ".exe", ""]
NAMES = [
    b"plain", b"two\nlines", b"-rf", b"--help", "🦊 fox".encode(), b"\xff\xfe invalid", b"'quotes\"", b"$(echo)",
    b"back\\slash", b"tab\there", b"\x1b[31mred", b"*?[a-z]", "e\u0301 e".encode(), b"x" * 200, b"%s%n", b"a,b;c",
]  # fmt: skip


@cache
def seeds():
    """{name: bytes} of whole pictures."""
    random = Random("seeds")
    drawn = [draw(label, random, 64) for label in SUBJECTS][:3]
    made = {}

    def add(name, kind, mode="RGB", **options):
        if "save_all" in options:
            options["append_images"] = [sun.copy(), sun.copy()]
        buffer = io.BytesIO()
        drawn[len(made) % len(drawn)].crop((0, 0, 64, 48)).convert(mode).save(buffer, kind, **options)
        made[name] = buffer.getvalue()

    exif = Image.Exif()
    exif[0x0112] = 6
    sun = draw("sun", random, 64).crop((0, 0, 64, 48))
    add("jpeg", "JPEG", quality=90)
    add("jpeg progressive", "JPEG", progressive=True)
    add("jpeg gray", "JPEG", "L")
    add("jpeg cmyk", "JPEG", "CMYK")
    add("jpeg turned", "JPEG", exif=exif)
    add("jpeg profile", "JPEG", icc_profile=bytes(500), comment=b"a comment")
    add("mpo", "MPO", save_all=True)
    add("png", "PNG")
    add("png alpha", "PNG", "RGBA")
    add("png gray alpha", "PNG", "LA")
    add("png palette", "PNG", "P", transparency=3)
    add("png 1 bit", "PNG", "1")
    add("png 16 bit", "PNG", "I;16")
    add("png turned", "PNG", exif=exif)
    add("apng", "PNG", save_all=True)
    add("webp", "WEBP")
    add("webp lossless", "WEBP", lossless=True)
    add("webp alpha", "WEBP", "RGBA", exif=exif)
    add("webp animated", "WEBP", save_all=True)
    add("gif", "GIF")
    add("gif animated", "GIF", save_all=True)
    add("bmp", "BMP")
    add("bmp palette", "BMP", "P")
    add("bmp 1 bit", "BMP", "1")
    add("ppm", "PPM")
    add("pgm", "PPM", "L")
    add("pbm", "PPM", "1")
    made["pgm in letters"] = b"P2 6 4 255\n" + b"0 100 255 7 " * 6
    add("tiff", "TIFF")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"):
        add(f"tiff {compression}", "TIFF", compression=compression)
    add("tiff fax", "TIFF", "1", compression="group4")
    add("tiff float", "TIFF", "F")
    add("tiff 32 bit", "TIFF", "I")
    add("tiff 16 bit", "TIFF", "I;16")
    add("tiff lab", "TIFF", "LAB")
    add("tiff cmyk", "TIFF", "CMYK", compression="tiff_lzw")
    add("tiff pages", "TIFF", save_all=True)
    add("tiff big", "TIFF", big_tiff=True)
    add("avif", "AVIF", speed=10)
    add("avif alpha", "AVIF", "RGBA", speed=10)
    add("avif animated", "AVIF", save_all=True, speed=10)
    add("icon", "ICO")
    add("jpeg 2000", "JPEG2000")
    return made


def _cut(data, random):
    return data[: len(data) * random.randrange(4) // 4]


def _cut_anywhere(data, random):
    return data[: random.randrange(len(data))]


def _flip(data, random):
    data = bytearray(data)
    for _ in range(random.choice([1, 1, 3, 10, 100])):
        data[random.randrange(len(data))] = random.randrange(256)
    return bytes(data)


def _flip_header(data, random):
    data = bytearray(data)
    for _ in range(random.choice([1, 2, 5])):
        data[random.randrange(min(len(data), 80))] = random.choice([0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)])
    return bytes(data)


def _big_number(data, random):
    number = random.choice([0, 1, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 70_000, 20_000_000])
    at = random.randrange(len(data))
    return data[:at] + struct.pack(random.choice("<>") + "I", number) + data[at + 4 :]


def _zeros(data, random):
    at, length = random.randrange(len(data)), random.choice([1, 4, 50, len(data) // 4])
    return data[:at] + bytes(len(data[at : at + length])) + data[at + length :]


def _repeat(data, random):
    start, length = random.randrange(len(data)), random.choice([1, 12, 200, 3000])
    return data[:start] + data[start : start + length] * random.choice([2, 3, 100]) + data[start + length :]


def _drop(data, random):
    at = random.randrange(len(data))
    return data[:at] + data[at + random.choice([1, 2, 13, 200]) :]


def _splice(data, random):
    other = random.choice(list(seeds().values()))
    return data[: random.randrange(len(data))] + other[random.randrange(len(other)) :]


def _polyglot(data, random):
    return random.choice([HTML + data, data + HTML, data + STRANGERS["zip"], data + data])


def _whole(data, random):
    return data


DAMAGES = [
    _cut, _cut, _cut_anywhere, _flip, _flip, _flip_header, _big_number, _zeros, _repeat, _drop, _splice, _polyglot,
    _whole,
]  # fmt: skip


def damage(data, random):
    """The bytes of a file, damaged in one way or two."""
    for _ in range(random.choice([1, 1, 1, 2])):
        data = random.choice(DAMAGES)(data, random) if data else data
    return data


def corruptions(count, seed=0):
    """Yield so many (name, content) of hostile names and broken contents, both bytes."""
    whole, strangers = seeds(), list(STRANGERS.values())
    for number in range(count):
        random = Random(f"{seed}/{number}")
        stem, extension = NAMES[number % len(NAMES)], random.choice(EXTENSIONS).encode()
        content = (
            random.choice(strangers) if number % 25 == 0 else damage(list(whole.values())[number % len(whole)], random)
        )
        name = b"%b-%05d%b" % (stem, number, extension)
        if number % 40 == 1:
            name = name.rjust(255, b"n")
        yield name, content


def write_corruptions(folder, count, seed=0):
    """Write them below a folder, and beside them what is no ordinary file.  Returns the number of files to be found."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in corruptions(count, seed):
        (folder / os.fsdecode(name)).write_bytes(content)
    return count + _write_special_files(folder)


def _write_special_files(folder):
    """Links that lead nowhere or into a circle, a pipe, a socket, devices, a folder named as a picture."""
    links = {
        "loop.jpg": "loop.jpg",
        "here.png": "there.png",
        "there.png": "here.png",
        "dangling.jpg": "nowhere",
        "zero.jpg": "/dev/zero",
        "full.jpg": "/dev/full",
        "link to pipe.jpg": "pipe.jpg",
        "link.jpg": "inside.jpg",
        "folder.jpg/upwards.jpg": "..",  # no file, and the way down from there was gone already
    }
    (folder / "folder.jpg").mkdir()
    for name, target in links.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as door, contextlib.chdir(folder):  # the path of a socket may not be long
        door.bind("socket.jpg")
    for name in ("folder.jpg/picture.png", "inside.jpg", "forbidden.jpg", "large.jpg"):
        (folder / name).write_bytes(seeds()["jpeg"])
    (folder / "forbidden.jpg").chmod(0)
    os.truncate(folder / "large.jpg", 3_000_000_000)
    return 8 + 2 + 4


# Bombs: small files that ask for much.  None of them may take much time or memory, and none may end anything.


def _encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _zeros_packed(count):
    packer, block = zlib.compressobj(1), bytes(1 << 20)
    packed = [packer.compress(block) for _ in range(count >> 20)]
    return b"".join([*packed, packer.compress(bytes(count & 0xFFFFF)), packer.flush()])


def _png(width, height, depth, color_type, packed, *more, after=()):
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0))
    chunks = [header, *more, _chunk(b"IDAT", packed), *after, _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _jpeg(*segments):
    """A small JPEG with segments put in front."""
    return b"\xff\xd8" + b"".join(segments) + seeds()["jpeg"][2:]


def _segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _many_scans(side, count):
    data = _encoded(Image.new("L", (side, side)), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * count + data[-2:]


def _exif(tags, length):
    """TIFF tags that all point to the same bytes."""
    entries = b"".join(struct.pack("<HHII", tag, 7, length, 0) for tag in range(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", tags) + entries + bytes(4)


def _webp(width, height, *chunks):
    head = (
        b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + b"".join(struct.pack("<I", n - 1)[:3] for n in (width, height))
    )
    body = b"WEBP" + head + b"ANIM" + struct.pack("<IIH", 6, 0, 0) + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_frame():
    content = _encoded(Image.new("RGB", (16, 16)), "WEBP")[12:]
    place = bytes(6) + b"\x0f\0\0" * 2 + b"\1\0\0\0"
    return b"ANMF" + struct.pack("<I", len(place) + len(content)) + place + content


def _gif(screen, frame, extra=b"", frames=1):
    control = b"!\xf9\x04" + struct.pack("<BHBB", 2 << 2, 0, 0, 0)
    content = control + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\2\2\x44\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0xF0, 0, 0) + bytes(6) + extra + content * frames + b";"


def _bmp(width, height, bits, compression, body):
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, *[0] * 5)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54) + head + body


def _tiff(*tags, body=b"", next_directory=0):
    """tags: (number, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + struct.pack("<I", next_directory) + body


def _tiff_of(width, height, *more, **options):
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), *more]
    return _tiff(*sorted(tags), **options)


AVIF_SIZE = struct.pack(">II", 64, 48)
PNG_CONTENT = 8, 8, 8, 0, _zeros_packed(72)
BOMBS = {
    "jpeg of 200 MP": lambda: _encoded(Image.new("L", (16_000, 12_500)), "JPEG"),
    "jpeg of 65500 x 65500": lambda: seeds()["jpeg"].replace(b"\0\x30\0\x40", b"\xff\xdc\xff\xdc"),
    "jpeg of 65500 x 1000": lambda: _encoded(Image.new("L", (65_500, 1_000)), "JPEG"),
    "jpeg progressive of 60 MP": lambda: _encoded(Image.new("L", (10_000, 6_000)), "JPEG", progressive=True),
    "jpeg of 1,000 scans": lambda: _many_scans(1000, 1000),
    "jpeg of 20,000 scans": lambda: _many_scans(1000, 20_000),
    "jpeg of many segments": lambda: _jpeg(_segment(0xE0, b""), b"\xff\xfe\0\2" * 500_000),
    "jpeg of much padding": lambda: _jpeg(_segment(0xE0, b""), b"\xff" * 1_000_000),
    "jpeg of much junk": lambda: _jpeg(_segment(0xE0, b""), bytes(1_000_000)),
    "jpeg of damaged exif": lambda: _jpeg(_segment(0xE1, b"Exif\0\0" + Random(0).randbytes(65_000))),
    "jpeg of exif that points to itself": lambda: _jpeg(_segment(0xE1, b"Exif\0\0" + _exif(5_000, 60_000))),
    "jpeg of a damaged profile": lambda: _jpeg(_segment(0xE2, b"ICC_PROFILE\0\1\1" + Random(0).randbytes(65_000))),
    "jpeg in HTML": lambda: HTML + seeds()["jpeg"],
    "png of 10 gigapixels": lambda: _png(100_000, 100_000, 8, 0, b""),
    "png of 2^31 x 2^31": lambda: _png(2**31 - 1, 2**31 - 1, 16, 6, b""),
    "png of 50 MP": lambda: _png(10_000, 5_000, 8, 6, _zeros_packed(40_001 * 5_000)),
    "png of 50 MP of 16 bit": lambda: _png(10_000, 5_000, 16, 0, _zeros_packed(20_001 * 5_000)),
    "png of one column": lambda: _png(1, 40_000_000, 8, 0, _zeros_packed(80_000_000)),
    "png of too much content": lambda: _png(8, 8, 8, 0, _zeros_packed(1 << 30)),
    "png of empty chunks": lambda: _png(*PNG_CONTENT, *[_chunk(b"abCd", b"")] * 300_000),
    "png of empty content chunks": lambda: _png(8, 8, 8, 0, b"", after=[_chunk(b"IDAT", b"")] * 300_000),
    "png of texts": lambda: _png(*PNG_CONTENT, *[_chunk(b"zTXt", b"a\0\0" + _zeros_packed(1_000_000))] * 99),
    "png of a large profile": lambda: _png(*PNG_CONTENT, _chunk(b"iCCP", b"a\0\0" + _zeros_packed(1 << 28))),
    "png of exif that points to itself": lambda: _png(*PNG_CONTENT, _chunk(b"eXIf", _exif(60_000, 700_000))),
    "webp of 268 MP": lambda: _webp(16_383, 16_383),
    "webp canvas of 50 MP": lambda: _webp(10_000, 5_000, _webp_frame()),
    "webp canvas of 30 MP": lambda: _webp(6_000, 5_000, _webp_frame()),
    "webp of 20,000 frames": lambda: _webp(64, 64, _webp_frame() * 20_000),
    "gif of 65535 x 65535": lambda: _gif((65_535, 65_535), (1, 1)),
    "gif frame of 65535 x 65535": lambda: _gif((1, 1), (65_535, 65_535)),
    "gif of 50 MP": lambda: _gif((10_000, 5_000), (10_000, 5_000)),
    "gif of 50,000 frames": lambda: _gif((8, 8), (8, 8), frames=50_000),
    "gif of comments": lambda: _gif((8, 8), (8, 8), extra=b"!\xfe" + b"\1a" * 1_000_000 + b"\0"),
    "bmp of 2^31": lambda: _bmp(2**31 - 1, 2**31 - 1, 24, 0, b""),
    "bmp of negative size": lambda: _bmp(-100, -100, 24, 0, bytes(100)),
    "bmp of least height": lambda: _bmp(100, -(2**31), 24, 0, bytes(100)),
    "bmp of 50 MP packed": lambda: _bmp(10_000, 5_000, 8, 1, bytes(1024) + b"\0\2\xff\xff" * 500_000),
    "ppm of 50 MP in letters": lambda: b"P1 10000 5000\n" + b"1" * 10_000_000,
    "ppm of an odd maximum": lambda: b"P6 4000 3000 3\n" + b"\1" * 36_000_000,
    "ppm of long numbers": lambda: b"P6 " + b"9" * 1_000_000,
    "ppm of a long comment": lambda: b"P6 #" + b"a" * 5_000_000 + b"\n8 8 255\n" + bytes(192),
    "tiff of 4 gigapixels": lambda: _tiff_of(2**32 - 1, 2**32 - 1, (273, 4, 1, 8), (279, 4, 1, 100)),
    "tiff of 50 MP of floats": lambda: _encoded(Image.new("F", (10_000, 5_000)), "TIFF", compression="tiff_lzw"),
    "tiff directory that is its own next": lambda: _tiff_of(8, 8, (273, 4, 1, 8), (279, 4, 1, 64), next_directory=8),
    "tiff of 65535 tags": lambda: _tiff(*[(tag, 7, 2**31, 0) for tag in range(65_535)]),
    "tiff of 1,000,000 strips": lambda: _tiff_of(
        4, 1_000_000, (273, 4, 1_000_000, 200), (278, 4, 1, 1), (279, 4, 1_000_000, 200), body=bytes(4_000_200)
    ),
    "tiff of 500,000 tiles": lambda: _tiff_of(
        700, 700, (322, 4, 1, 1), (323, 4, 1, 1), (324, 4, 490_000, 200), (325, 4, 490_000, 200), body=bytes(2_000_200)
    ),
    "tiff of huge tiles": lambda: _tiff_of(
        8, 8, (322, 4, 1, 2**20), (323, 4, 1, 2**20), (324, 4, 1, 200), (325, 4, 1, 100), body=bytes(400)
    ),
    "avif of 50 MP": lambda: _encoded(Image.new("RGB", (10_000, 5_000)), "AVIF", speed=10),
    "avif of 268 MP": lambda: seeds()["avif"].replace(AVIF_SIZE, b"\0\0\x40\0" * 2),
    "avif of 2^32": lambda: seeds()["avif"].replace(AVIF_SIZE, b"\xff" * 8),
}  # fmt: skip
