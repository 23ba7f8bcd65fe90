import io
import logging
import sys

import pytest

from retrain.cli import main


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path):
    """Run the command line in this process, in an empty folder: exit code, stdout, stderr."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "argv", ["retrain", *map(str, arguments)])
        monkeypatch.setattr(logging.root, "handlers", [])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfdbinary.readouterr()
        return ended.value.code or 0, out, err.decode()

    return run
