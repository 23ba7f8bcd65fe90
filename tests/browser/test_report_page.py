"""The report as a browser shows it: Chromium, headless, without a network."""

import shutil
import socket
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import CURVE, make_evidence, make_model, make_pictures

from retrain.options import LearnOptions, TrainOptions
from retrain.recipes.learning import learn
from retrain.recipes.training import train
from retrain.report import write_report

CLASSES = ["cat", "dog", "</style><script>alert(1)</script>"]
PHONE = 390  # px
LARGE = 24  # px, of a target for fingers, WCAG 2.5.8
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The URL of a page with all that a page can have."""
    folder = tmp_path_factory.mktemp("report")
    names = [f"{number} <img src=x onerror=alert(1)>.jpg" for number in range(24)]
    truth, guesses = [0] * 8 + [1] * 8 + [2] * 8, [0] * 5 + [1] * 11 + [0] + [2] * 7
    shortcut = {
        "flagged": True, "classes": ["dog"], "pictures": 24, "examples": [9, 10],
        "object_masked": 0.8, "background_masked": 0.2,
    }  # fmt: skip
    curve = CURVE | {"gains": [*CURVE["gains"], None]}
    skipped = [{"path": "broken.jpg", "reason": "truncated: byte 7"}]
    evidence = make_evidence(
        CLASSES, make_pictures(folder, names), truth, guesses,
        learning_curve=curve, shortcut=shortcut, skipped=skipped, threshold=0.9,
    )  # fmt: skip
    write_report(make_model(CLASSES), evidence, folder / "report.html")
    return (folder / "report.html").as_uri()


@pytest.fixture
def open_page(browser, report):
    """Opens the report, or another.  At the end no other file was requested, and nothing was complained of."""
    opened, requests, complaints, contexts = [], [], [], []

    def open_page(fragment="", url=report, **options):
        opened.append(url)
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(url + fragment)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints
    assert {url.partition("#")[0] for url in requests if not url.startswith("data:")} == set(opened)


def shown_cells(page):
    return [cell.get_attribute("id") for cell in page.locator(".cell").all() if cell.is_visible()]


def test_cell_of_the_matrix_opens_its_pictures_on_a_click(open_page):
    page = open_page()
    assert shown_cells(page) == []
    page.get_by_role("link", name="3: cat taken for dog").click()
    assert shown_cells(page) == ["cell-0-1"]
    pictures = page.locator("#cell-0-1 img")
    assert pictures.count() == 3
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
    page.locator("#cell-0-1").get_by_role("link", name="Close").click()
    assert shown_cells(page) == []


@pytest.mark.real
def test_report_of_photos_is_clickable_and_readable(open_page, real_data, tmp_path):
    train(real_data / "flowers", TrainOptions(model_dir=tmp_path / "model"))
    page = open_page(url=(tmp_path / "model" / "report.html").as_uri())
    mistakes = page.locator(".matrix td[class^=miss] a")
    assert mistakes.count() > 0
    mistakes.first.click()
    assert len(shown_cells(page)) == 1
    assert Axe().run(page, options={"runOnly": RULES}).response["violations"] == []


def test_cells_open_and_close_by_keyboard_alone(open_page):
    page = open_page()
    for _ in range(50):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.hash") == "#cell-0-1":
            break
    page.keyboard.press("Enter")
    assert shown_cells(page) == ["cell-0-1"]
    assert page.evaluate("document.activeElement.id") == "cell-0-1"  # where a screen reader goes on
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert shown_cells(page) == []
    assert page.evaluate("document.activeElement.id") == "matrix"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, 1280])
def test_nothing_keeps_anybody_from_reading_it(open_page, scheme, width):
    page = open_page("#cell-0-1", color_scheme=scheme, viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    violations = Axe().run(page, options={"runOnly": RULES}).response["violations"]
    assert [(found["id"], found["impact"], [node["html"] for node in found["nodes"]]) for found in violations] == []


def test_dark_mode_is_dark(open_page):
    def lightness(scheme):
        color = open_page(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, color.removeprefix("rgb(").removesuffix(")").split(",")))

    assert lightness("dark") < 150 < 600 < lightness("light")


@pytest.mark.parametrize("fragment", ["", "#cell-0-1"])
def test_page_is_no_wider_than_a_phone(open_page, fragment):
    page = open_page(fragment, viewport={"width": PHONE, "height": 800}, is_mobile=True, has_touch=True)
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE
    for link in page.locator(".matrix a").all():
        assert min(link.bounding_box()[side] for side in ("width", "height")) >= LARGE


@pytest.mark.parametrize("width", [PHONE, 1280])
def test_page_of_learn_is_readable_and_leads_to_the_pictures(open_page, sample, tmp_path, monkeypatch, width):
    monkeypatch.chdir(tmp_path)
    for name in ("fish", "tree"):
        shutil.copytree(sample / name, tmp_path / "tf_files" / "data" / name)
    shutil.copytree(sample / "fish", tmp_path / "own" / "tree" / "<img src=x onerror=alert(1)>")
    (tmp_path / "own" / "words.jpg").write_text("words")
    learn(["fish", "tree"], tmp_path / "own", LearnOptions(threshold=0.7))
    page = open_page(url=(tmp_path / "results" / "index.html").as_uri(), viewport={"width": width, "height": 800})
    assert page.get_by_text("lies in tree").count() > 0
    links = [link.get_attribute("href") for link in page.locator("figure a").all()]
    assert links and all((tmp_path / "results" / link).is_file() for link in links)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert Axe().run(page, options={"runOnly": RULES}).response["violations"] == []


def test_page_has_one_heading_and_no_level_left_out(open_page):
    levels = open_page("#cell-0-1").evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map(heading => +heading.tagName[1])"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_policy_of_the_page_stops_what_would_reach_the_network(browser, report):
    context = browser.new_context()
    page = context.new_page()
    page.goto(report)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1)
        page.evaluate(
            """url => {
                const image = document.createElement('img'), script = document.createElement('script');
                image.src = url; script.textContent = 'document.title = "owned"';
                document.body.append(image, script);
            }""",
            f"http://127.0.0.1:{server.getsockname()[1]}/x.png",
        )
        with pytest.raises(TimeoutError):
            server.accept()
    assert page.title() != "owned"
    context.close()


@pytest.mark.parametrize("width", [PHONE, 1280])
def test_page_of_several_labels_is_readable(open_page, trained_on_labels, width):
    url = (trained_on_labels[0] / "model" / "report.html").as_uri()
    page = open_page(url=url, viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.get_by_role("row").count() == 1 + 3
    assert page.get_by_text("was missed").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert Axe().run(page, options={"runOnly": RULES}).response["violations"] == []
