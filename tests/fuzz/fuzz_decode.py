"""Fuzz the decoder: python tests/fuzz/fuzz_decode.py CORPUS [libFuzzer's options], such as -max_total_time=60.

Whatever bytes come, the decoder gives an RGB picture or an ImageError with a reason.  The corpus is a folder that
libFuzzer fills; the first run puts small pictures of every format there.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "pi_heif", "retrain.images"]):
    from retrain import images

sys.path.insert(0, str(Path(__file__).parents[1]))
from corruptions import seeds


def decode_here(data, name, *_, **__):
    """Without the sandbox, where neither a crash nor the code that was reached would be seen."""
    return images._decode_here(data, name, costly=True)


def check(data):
    try:
        assert images.decode(data).mode == "RGB"
    except images.ImageError as error:
        assert error.reason in images.REASONS


def main():
    images._decode_apart = decode_here
    corpus = next(Path(argument) for argument in sys.argv[1:] if not argument.startswith("-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for name, data in seeds().items():
        (corpus / name.replace(" ", "-")).write_bytes(data)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
