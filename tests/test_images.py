import io
import os
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from corruptions import damage, seeds
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrain import images, sandbox
from retrain.images import REASONS, ImageError, decode, read, to_input

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

ORIENTATION = 0x0112  # EXIF tag


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width=48, height=32):
    """A smooth picture without symmetry, so that codecs keep it and a wrong turn shows."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray(np.stack([255 * x, 255 * y, 200 - 150 * x * y], axis=2).astype(np.uint8))


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, depth, color_type, rows, *more):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pixels(image):
    return np.asarray(image, np.int16)


RGB = gradient()
GRAY = RGB.convert("L")
GRAY_16 = Image.fromarray(np.asarray(GRAY, np.uint16) * 257)
ALPHA = Image.merge("RGBA", [*RGB.split(), GRAY])
ON_WHITE = Image.composite(RGB, Image.new("RGB", RGB.size, "white"), GRAY)
GRAY_ON_WHITE = Image.composite(GRAY, Image.new("L", GRAY.size, "white"), GRAY)
FRAMES = {"save_all": True, "append_images": [Image.new("RGB", RGB.size, "red")]}

# name: (encoded, expected, most that a pixel may differ)
FORMATS = {
    "jpeg": (encode(RGB, "JPEG", quality=95, subsampling=0), RGB, 8),
    "jpeg grey": (encode(GRAY, "JPEG", quality=95), GRAY, 8),
    "jpeg cmyk": (encode(RGB.convert("CMYK"), "JPEG", quality=95), RGB, 12),
    "jpeg progressive": (encode(RGB, "JPEG", quality=95, subsampling=0, progressive=True), RGB, 8),
    "mpo": (encode(RGB, "MPO", quality=95, subsampling=0, **FRAMES), RGB, 8),
    "png": (encode(RGB, "PNG"), RGB, 0),
    "png grey": (encode(GRAY, "PNG"), GRAY, 0),
    "png palette": (encode(GRAY.quantize(256), "PNG"), GRAY.quantize(256), 0),
    "png alpha": (encode(ALPHA, "PNG"), ON_WHITE, 1),
    "png grey alpha": (encode(Image.merge("LA", [GRAY, GRAY]), "PNG"), GRAY_ON_WHITE, 1),
    "png 1 bit": (encode(GRAY.convert("1"), "PNG"), GRAY.convert("1"), 0),
    "png 16 bit": (encode(GRAY_16, "PNG"), GRAY, 0),
    "apng": (encode(RGB, "PNG", **FRAMES), RGB, 0),
    "webp": (encode(RGB, "WEBP", quality=95), RGB, 12),
    "webp lossless": (encode(RGB, "WEBP", lossless=True), RGB, 0),
    "webp alpha": (encode(ALPHA, "WEBP", lossless=True, exact=True), ON_WHITE, 1),
    "webp animated": (encode(RGB, "WEBP", lossless=True, **FRAMES), RGB, 0),
    "gif": (encode(GRAY, "GIF"), GRAY, 0),
    "gif animated": (encode(GRAY, "GIF", **FRAMES), GRAY, 0),
    "bmp": (encode(RGB, "BMP"), RGB, 0),
    "bmp grey": (encode(GRAY, "BMP"), GRAY, 0),
    "tiff": (encode(RGB, "TIFF"), RGB, 0),
    "tiff lzw": (encode(RGB, "TIFF", compression="tiff_lzw"), RGB, 0),
    "tiff jpeg": (encode(RGB, "TIFF", compression="jpeg", quality=95), RGB, 12),
    "tiff fax": (encode(GRAY.convert("1"), "TIFF", compression="group4"), GRAY.convert("1"), 0),
    "tiff alpha": (encode(ALPHA, "TIFF"), ON_WHITE, 1),
    "tiff 16 bit": (encode(GRAY_16, "TIFF"), GRAY, 0),
    "tiff 32 bit": (encode(Image.fromarray(np.asarray(GRAY, np.int32) * 1000), "TIFF"), GRAY, 2),
    "tiff float": (encode(Image.fromarray(np.asarray(GRAY, np.float32) / 255), "TIFF"), GRAY, 2),
    "tiff cmyk": (encode(RGB.convert("CMYK"), "TIFF"), RGB, 1),
    "tiff lab": (encode(Image.new("LAB", (8, 8), (137, 209, 194)), "TIFF"), Image.new("RGB", (8, 8), (255, 0, 0)), 16),
    "avif": (encode(RGB, "AVIF", quality=95, subsampling="4:4:4"), RGB, 12),
    "ppm": (encode(RGB, "PPM"), RGB, 0),
    "pgm": (encode(GRAY, "PPM"), GRAY, 0),
    "pgm in letters": (b"P2\n3 1\n255\n0 100 255\n", Image.fromarray(np.uint8([[0, 100, 255]])), 0),
    "pbm": (encode(GRAY.convert("1"), "PPM"), GRAY.convert("1"), 0),
}  # fmt: skip
# Formats that tell apart where black is only from the content's own range.
STRETCHED = {"tiff 32 bit", "tiff float"}


@pytest.mark.parametrize("name", FORMATS)
def test_format_decodes_to_expected_pixels(name):
    data, expected, tolerance = FORMATS[name]
    expected = np.asarray(expected.convert("RGB"), float)
    if name in STRETCHED:
        expected = (expected - expected.min()) * 255 / (expected.max() - expected.min())
    image = decode(data)
    assert image.mode == "RGB"
    assert pixels(image).shape == expected.shape
    assert np.abs(pixels(image) - expected).max() <= tolerance


def test_16_bit_transparency_is_laid_on_white():
    data = png(3, 1, 16, 0, b"\0" + struct.pack(">3H", 0, 100 * 257, 65535), chunk(b"tRNS", struct.pack(">H", 0)))
    assert np.asarray(decode(data))[0, :, 0].tolist() == [255, 100, 255]


def test_palette_transparency_is_laid_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    assert np.asarray(decode(encode(image, "PNG", transparency=0))).tolist() == [[[255, 255, 255], [0, 0, 255]]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_comes_upright(kind, orientation):
    upright = np.asarray(gradient())
    # What a camera held that way stores: the inverse of what EXIF 2.32 asks the viewer to do.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if kind == "WEBP" else {} if kind in ("PNG", "TIFF") else {"quality": 95}
    decoded = pixels(decode(encode(Image.fromarray(stored), kind, exif=exif, **options)))
    assert decoded.shape == upright.shape
    assert np.abs(decoded - upright).max() <= 16


@pytest.mark.parametrize("side", [1024, 1500, 2100, 4200])
def test_large_jpeg_at_reduced_scale_gives_same_network_input(side):
    data = encode(gradient(side, side * 3 // 4), "JPEG", quality=95)
    reduced = decode(data)
    with Image.open(io.BytesIO(data)) as whole:
        whole.load()
        expected = to_input(whole, 224, 0.875)
    assert min(reduced.size) >= min(images.DRAFT_SIDE, side * 3 // 4)
    assert np.abs(pixels(to_input(reduced, 224, 0.875)) - expected).max() <= 3


def test_very_large_jpeg_is_decoded_at_an_eighth():
    data = encode(Image.new("L", (9000, 6000)), "JPEG")
    assert decode(data).size == (1125, 750)


def test_input_is_centre_crop():
    image = Image.new("RGB", (400, 200), "red")
    image.paste("blue", (100, 0, 300, 200))  # the centre square
    entry = to_input(image, 32, 1.0)
    assert (entry.shape, entry.dtype) == ((32, 32, 3), np.uint8)
    assert (entry[:, 1:-1] == (0, 0, 255)).all()


def test_extension_is_no_matter(tmp_path):
    path = tmp_path / "picture.txt"
    path.write_bytes(FORMATS["png"][0])
    assert np.array_equal(decode(read(path)), RGB)


def bmp_of(width, height):
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def gif_of(width, height):
    # "Restore to background" makes Pillow draw a frame's background as soon as it opens the file.
    control = b"!\xf9\x04" + struct.pack("<BHBB", 2 << 2, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + control + frame + b"\2"


JPEG = FORMATS["jpeg"][0]
REFUSED = {
    "nothing": (b"", "empty"),
    "text named .jpg": (b"just some words\n", "not_an_image"),
    "html": (b"<!DOCTYPE html><html><body>404</body></html>", "not_an_image"),
    "zeros": (bytes(1000), "not_an_image"),
    "jpeg cut in two": (JPEG[: len(JPEG) // 2], "truncated"),
    "jpeg header alone": (JPEG[:30], "truncated"),
    "png cut in two": (FORMATS["png"][0][:-100], "truncated"),
    "webp cut in two": (FORMATS["webp"][0][:-100], "truncated"),
    "avif cut in two": (FORMATS["avif"][0][:-100], "truncated"),
    "avif header alone": (FORMATS["avif"][0][:100], "truncated"),
    "gif cut in two": (FORMATS["gif"][0][:-300], "truncated"),
    "png with a wrong checksum": (png(8, 8, 8, 0, bytes(72)).replace(b"IHDR\0\0\0\x08", b"IHDR\0\0\0\x09"), "corrupt"),
    "png of no pixels": (png(0, 0, 8, 0, b""), "corrupt"),
    "jpeg of an unknown kind": (JPEG.replace(b"\xff\xc0", b"\xff\xcf"), "corrupt"),
    "png bomb": (png(100_000, 100_000, 8, 0, b""), "too_large"),
    "bmp bomb": (bmp_of(100_000, 100_000), "too_large"),
    "gif bomb": (gif_of(65_535, 65_535), "too_large"),
    "jpeg bomb": (JPEG.replace(struct.pack(">HH", 32, 48), struct.pack(">HH", 60_000, 60_000)), "too_large"),
    "svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>', "unsupported"),
    "jpeg xl": (bytes.fromhex("0000000c4a584c200d0a870a") + bytes(40), "unsupported"),
    "icon": (encode(RGB, "ICO"), "unsupported"),
    "jpeg 2000": (encode(RGB, "JPEG2000"), "unsupported"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_content_is_refused_with_its_reason(name):
    data, reason = REFUSED[name]
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.reason == reason
    assert str(caught.value).startswith(f"{reason} (")


@pytest.mark.parametrize("name", [name for name in REFUSED if name.endswith("bomb")])
def test_bomb_is_refused_before_memory_is_taken(monkeypatch, name):
    sizes = []
    monkeypatch.setattr(Image.core, "fill", lambda mode, size, color=0: sizes.append(size))
    with pytest.raises(ImageError):
        decode(REFUSED[name][0])
    assert not sizes


def no_file(path):
    pass


def named_pipe(path):
    os.mkfifo(path)


def folder(path):
    path.mkdir()


def dangling_link(path):
    path.symlink_to("nowhere")


def link_loop(path):
    path.symlink_to(path)


def picture_of_600_mb(path):
    with path.open("wb") as file:
        file.write(JPEG)
        file.truncate(600_000_000)  # a hole, no bytes on disk


def zeros_of_600_mb(path):
    with path.open("wb") as file:
        file.truncate(600_000_000)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (no_file, "unreadable"),
        (named_pipe, "unreadable"),
        (folder, "unreadable"),
        (dangling_link, "unreadable"),
        (link_loop, "unreadable"),
        (picture_of_600_mb, "too_large"),
        (zeros_of_600_mb, "not_an_image"),
    ],
)
def test_bad_file_is_refused_with_its_reason(tmp_path, make, reason):
    path = tmp_path / "picture.jpg"
    make(path)
    with pytest.raises(ImageError) as caught:
        read(path)
    assert caught.value.reason == reason


def test_file_without_permission_is_unreadable(ordinary_user):
    path = ordinary_user / "picture.jpg"
    path.touch(mode=0)
    with pytest.raises(ImageError, match="Permission denied") as caught:
        read(path)
    assert caught.value.reason == "unreadable"


def test_too_little_memory_is_a_reason(monkeypatch):
    def fail(image):
        raise MemoryError

    monkeypatch.setattr(images, "_upright_rgb", fail)
    with pytest.raises(ImageError) as caught:
        decode(JPEG)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("name", FORMATS)
def test_sandbox_gives_the_same_pixels(name):
    data, plugin = FORMATS[name][0], images._format(FORMATS[name][0])
    assert np.array_equal(images._decode_apart(data, plugin), images._decode_here(data, plugin))


@pytest.mark.parametrize(
    "error", [sandbox.CrashError("Segmentation fault"), sandbox.SlowError("no answer in 4.0 seconds")]
)
def test_decoder_that_crashes_or_hangs_is_a_reason(monkeypatch, error):
    def run(*args, **options):
        raise error

    monkeypatch.setattr(sandbox, "run", run)
    reason = "too_slow" if isinstance(error, sandbox.SlowError) else "corrupt"
    with pytest.raises(ImageError, match=str(error)) as caught:
        decode(FORMATS["tiff"][0])
    assert caught.value.reason == reason


def test_no_process_to_decode_in_is_a_reason(monkeypatch):
    monkeypatch.setattr(sandbox, "_pool", sandbox._Pool())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert decode(JPEG)
    with pytest.raises(ImageError, match="No such file") as caught:
        decode(FORMATS["tiff"][0])
    assert caught.value.reason == "unreadable"


PLAIN = ["jpeg", "jpeg grey", "jpeg cmyk", "jpeg progressive", "mpo", "png", "png alpha", "webp", "gif", "bmp"]
ORDINARY = {name: FORMATS[name][0] for name in PLAIN} | {
    "jpeg of 24 MP": encode(gradient(6000, 4000), "JPEG"),
    "jpeg progressive of 6 MP": encode(gradient(3000, 2000), "JPEG", progressive=True),
    "png of 4K": encode(gradient(3840, 2160), "PNG", compress_level=1),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_pictures_need_no_sandbox(monkeypatch, name):
    monkeypatch.setattr(sandbox, "run", None)
    assert decode(ORDINARY[name]).mode == "RGB"


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (JPEG, (48, 32)),
        (encode(gradient(3000, 2000), "JPEG"), (3000, 2000)),
        (
            encode(gradient(3000, 2000), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"),
            (2000, 3000),
        ),
        (encode(gradient(1500, 2000), "PNG"), (1500, 2000)),
        (encode(gradient(5000, 4000), "TIFF"), (5000, 4000)),
    ],
)
def test_original_size_is_told(data, size):
    assert decode(data).info["original_size"] == size


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16", "F", "CMYK"])
def test_large_pictures_come_scaled_down(mode):
    kind = "TIFF" if mode in ("F", "CMYK") else "PNG"
    picture = gradient(2100, 1600)
    whole = (
        GRAY_16.resize((2100, 1600)) if mode == "I;16" else picture.convert("L" if mode == "P" else "RGB").convert(mode)
    )
    expected = decode(encode(whole.resize((700, 533)), kind))
    image = decode(encode(whole, kind))
    assert image.size == (700, 534)
    assert np.abs(pixels(to_input(image, 32, 1.0)) - to_input(expected, 32, 1.0)).max() <= 4


def picture_or_reason(data):
    try:
        assert decode(data).mode == "RGB"
    except ImageError as error:
        assert error.reason in REASONS


@given(st.binary())
def test_any_bytes_give_picture_or_reason(data):
    picture_or_reason(data)


PICTURES = st.sampled_from(list(seeds().values()))


@given(PICTURES, st.integers(0, 2**32), st.integers(0, 255))
def test_any_changed_byte_gives_picture_or_reason(data, at, byte):
    data = bytearray(data)
    data[at % len(data)] = byte
    picture_or_reason(bytes(data))


@given(PICTURES, st.integers(0, 2**32))
def test_any_truncation_gives_picture_or_reason(data, at):
    picture_or_reason(data[: at % len(data)])


@settings(max_examples=500)
@given(PICTURES, st.randoms(use_true_random=False))
def test_any_damage_gives_picture_or_reason(data, random):
    picture_or_reason(damage(data, random))


@pytest.mark.real
@pytest.mark.parametrize("scene", ["Landscape", "Portrait"])
@pytest.mark.parametrize("orientation", range(9))
def test_photo_of_any_orientation_is_upright(real_data, scene, orientation):
    paths = [real_data / "exif" / f"{scene}_{number}.jpg" for number in (1, orientation)]
    expected, found = (pixels(decode(read(path)).resize((64, 64))) for path in paths)
    assert np.abs(found - expected).mean() < 3


@pytest.mark.real
def test_photos_lie_as_their_names_say(real_data):
    for path in (real_data / "exif").glob("*.jpg"):
        image = decode(read(path))
        assert (image.width > image.height) == path.name.startswith("Landscape")


@pytest.mark.real
def test_heic_decodes(real_data):
    for path in (real_data / "messy").glob("heif--*"):
        assert np.asarray(decode(read(path))).std() > 5


@pytest.mark.real
@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"msf1", b"mif1"])
def test_heic_of_every_brand_decodes(real_data, brand):
    data = read(real_data / "messy" / "heif--L_8__128x128.heif")
    assert decode(data[:8] + brand + data[12:]).size == (128, 128)


@pytest.mark.real
def test_messy_files_are_all_accounted_for(real_data):
    def outcome(path):
        try:
            return path.name.partition("--")[0], decode(read(path)).mode
        except ImageError as error:
            return path.name.partition("--")[0], error.reason

    outcomes = Counter(outcome(path) for path in (real_data / "messy").iterdir() if path.name != "INDEX.tsv")
    assert {key: count for key, count in outcomes.items() if key[1] != "RGB"} == {
        ("avif-not-decoded", "corrupt"): 2,
        ("broken-bmp", "unsupported"): 5,
        ("broken-gif", "corrupt"): 2,
        ("broken-gif", "truncated"): 1,
        ("broken-jpeg", "corrupt"): 9,
        ("broken-jpeg", "not_an_image"): 1,
        ("broken-jpeg", "truncated"): 12,
        ("broken-png", "corrupt"): 2,
        ("broken-png", "not_an_image"): 1,
        ("broken-png", "too_large"): 1,
        ("broken-png", "truncated"): 2,
        ("broken-webp", "truncated"): 1,
        ("decompression-bomb", "too_large"): 4,
    }
    assert sum(outcomes.values()) == 96


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux what is loaded")
def test_libmagic_is_the_one_that_comes_with_its_package():
    code = """
from retrain.images import sniff
sniff(b"")
print(*{line.split()[-1] for line in open("/proc/self/maps") if "libmagic" in line})
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {Path(path).parent.name for path in loaded.split()} == {"pylibmagic"}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"size": [9, 9]},
        {"size": [10**9, 10**9]},
        {"size": "ab"},
        {"size": [-3, -1]},
        {"reason": "no such", "detail": ""},
    ],
    ids=str,
)
def test_sandbox_that_sends_no_picture_is_a_corrupt_file(answer, monkeypatch):
    monkeypatch.setattr(images.sandbox, "run", lambda *_, **__: (answer, bytes(9)))
    with pytest.raises(ImageError, match="corrupt"):
        images._decode_apart(b"data", "TIFF")
