"""The command lines of the old programs: their flags, their output, our work behind them.

`python -m retrain.compat PROGRAM …` runs one as `python scripts/compat/PROGRAM …` does.
"""

import importlib
import io
import logging
import os
import sys
from pathlib import Path

from retrain.errors import RetrainError

# Program → module and function, which takes the arguments and returns the exit code.
PROGRAMS = {
    "retrain.py": ("retraining", "main"),
    "label_image.py": ("labelling", "label_image"),
    "classify.py": ("labelling", "classify"),
    "predict.py": ("labelling", "predict"),
    "classify_image.py": ("labelling", "classify_image"),
    "label_dir.py": ("scanning", "label_dir"),
    "label_image_tojson.py": ("scanning", "label_image_tojson"),
    "classifier_training.py": ("collecting", "classifier_training"),
    "make_image_classifier.py": ("making", "make_image_classifier"),
    "Image-Recognition-ReCaptcha-Fooling.py": ("collecting", "find_other"),
}


def main(program, argv=None):
    """Run an old program, of that name or path.  argv: its arguments; None: this process's.  Returns the exit code."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("retrain").setLevel(logging.INFO)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # file names leave as they came
    # A link to a program may have any name.
    name = Path(program).name if Path(program).name in PROGRAMS else Path(os.path.realpath(program)).name
    module, function = PROGRAMS[name]
    try:
        run = getattr(importlib.import_module(f"retrain.compat.{module}"), function)
        code = run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # head and the like close early
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except RetrainError as error:
        print(f"Error: {error}", file=sys.stderr)
        if error.hint:
            print(f"Hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # what nobody foresaw, such as a full disk
        print(f"Error: {error}.\nHint: Check the paths, and whether the disk is full.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
