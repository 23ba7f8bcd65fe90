import json
from pathlib import Path

from retrain.classifier import Classifier


def test_prints_a_line_a_picture(run, sample, model_dir):
    code, out, err = run("explain", sample / "sun", "--out", "out")
    lines = out.decode().splitlines()
    assert code == 0
    assert len(lines) == 24
    assert lines[0].startswith(f"{sample / 'sun' / 'sun-000.jpg'}: ")
    assert lines[0].endswith("-> out/sun-000-heatmap.jpg")
    assert "Explaining: 24 in " in err


def test_json_is_a_line_a_picture(run, picture, model_dir):
    code, out, _ = run("explain", picture, "--out", "out", "--json", "--label", "sun")
    row = json.loads(out)
    assert code == 0
    assert row["label"] == "sun"
    assert Path(row["segment"]).is_file()


def test_bad_file_is_counted_and_ends_nothing(run, picture, model_dir, tmp_path):
    (tmp_path / "words.jpg").write_text("words")
    code, out, err = run("explain", tmp_path / "words.jpg", picture, "--out", "out")
    assert code == 3
    assert len(out.splitlines()) == 1
    assert "words.jpg: not_an_image" in err
    assert "1 file(s) failed." in err


def test_where_to_write_must_be_said(run, picture, model_dir):
    code, _, err = run("explain", picture)
    assert code == 2
    assert "--out" in err


def test_guess_explains_what_it_guesses(run, picture, model_dir, tmp_path):
    _, plain, _ = run("guess", picture, "--json")
    code, out, _ = run("guess", picture, "--json", "--explain", "why")
    row = json.loads(out)
    assert code == 0
    files = {kind: row.pop(kind) for kind in ("original", "heatmap", "segment")}
    assert row == json.loads(plain)
    assert {str(path) for path in Path("why").iterdir()} == set(files.values())
    _, text, _ = run("guess", picture)
    assert run("guess", picture, "--explain", "why")[1] == text


def test_guess_explains_standard_input(run, picture, model_dir):
    code, out, _ = run("guess", "-", "--explain", "why", stdin=picture.read_bytes())
    assert code == 0
    assert out
    assert sorted(path.name for path in Path("why").iterdir()) == [
        "picture-heatmap.jpg", "picture-original.jpg", "picture-segment.jpg",
    ]  # fmt: skip


def test_guess_decodes_a_picture_once_to_explain_it(run, picture, model_dir, monkeypatch):
    from retrain.recipes import explaining

    decoded = []
    monkeypatch.setattr(explaining, "decode", lambda data, real=explaining.decode: decoded.append(data) or real(data))
    monkeypatch.setattr(Classifier, "guess_bytes", None)
    assert run("guess", picture, "--explain", "why")[0] == 0
    assert len(decoded) == 1
