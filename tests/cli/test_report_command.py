import sys
import webbrowser

import pytest
from test_cli import is_one_clear_error


@pytest.fixture
def opened(monkeypatch):
    """The URLs that a browser was asked to open."""
    urls = []
    monkeypatch.setattr(webbrowser, "open", lambda url: not urls.append(url))
    return urls


def test_report_says_where_the_page_is(run, model_dir, opened):
    assert run("report") == (0, f"{model_dir}/report.html\n".encode(), "")
    assert opened == []


def test_report_is_opened_where_asked(run, model_dir, opened, tmp_path):
    elsewhere = tmp_path / "here" / "my model #1"
    model_dir.rename(elsewhere)
    assert run("report", "--model-dir", "my model #1", "--open") == (0, b"my model #1/report.html\n", "")
    assert opened == [f"{tmp_path.as_uri()}/here/my%20model%20%231/report.html"]


@pytest.mark.parametrize(("options", "times"), [([], 1), (["--no-open"], 0)])
def test_report_is_opened_on_a_terminal_unless_told_not_to(run, model_dir, opened, monkeypatch, options, times):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("report", *options)[0] == 0
    assert len(opened) == times


def test_no_browser_is_an_error_only_where_one_was_asked_for(run, model_dir, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run("report")[0] == 0
    code, out, err = run("report", "--open")
    assert (code, out) == (1, f"{model_dir}/report.html\n".encode())
    assert "Error: no browser" in err
    assert f"Hint: Open {model_dir}/report.html by hand." in err


def test_without_a_page_report_says_how_to_get_one(run, model_dir):
    (model_dir / "report.html").unlink()
    is_one_clear_error(run("report"), "there is no report")


def test_evaluate_writes_a_page_of_the_pictures_measured(run, data, model_dir, opened):
    code, _, _ = run("evaluate", data, "--html", "page.html")
    page = (model_dir.parent.parent / "here" / "page.html").read_text("utf-8")
    assert code == 0
    assert f"measured on <bdi>{data}</bdi>" in page
    assert "On 12 pictures." in page
    assert "learned by this model: the accuracy is flattered" in page


def test_evaluate_leaves_a_file_that_is_no_such_page(run, data, model_dir, tmp_path):
    (tmp_path / "here" / "notes.html").write_text("mine")
    code, _, err = run("evaluate", data, "--html", "notes.html")
    assert code == 1
    assert "is there already" in err
    assert (tmp_path / "here" / "notes.html").read_text() == "mine"


def test_page_of_an_evaluation_says_what_was_called_unknown_and_why(run, sample, model_dir, tmp_path):
    assert run("evaluate", sample, "--threshold", "0.9", "--html", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "confidence below 0.9 is called unknown" in page
    assert "of the pictures of known classes" in page
