import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from pages import CURVE, make_evidence, make_model, make_pictures

from retrain.errors import RetrainError
from retrain.metrics import Judged, summarize
from retrain.report import Evidence, render_report, trained, write_report
from retrain.report.trained import NAMED

CAT, DOG = "cat", "dog"
HOSTILE = [
    "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", '"><b onclick=alert(1)>',
    "</style><style>*{}", "{{ 7 * 7 }}{% for %}", "a&amp;b", "\u202eevil", "' onload='", "javascript:alert(1)",
    "back\\slash",
]  # fmt: skip
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "strong", "span", "bdi", "a",
    "code", "dl", "div", "dt", "dd", "ul", "li", "details", "summary", "section", "figure", "figcaption", "img",
    "table", "caption", "thead", "tbody", "tr", "th", "td",
    "svg", "desc", "line", "polyline", "circle", "rect", "text",
}  # fmt: skip


class Page(HTMLParser):
    """What a browser makes of a page: its tags, its text, and what it would fetch."""

    def __init__(self, html):
        super().__init__()
        self.html, self.tags, self.parts, self.open = html, [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.parts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.parts))

    def all(self, name):
        """The attributes of all tags of that name."""
        return [attributes for tag, attributes in self.tags if tag == name]

    def values(self, name):
        """That attribute wherever it stands."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]


@pytest.fixture
def paths(tmp_path):
    return make_pictures(tmp_path / "pictures", [f"{number}.jpg" for number in range(12)])


@pytest.fixture
def pets(paths):
    """Twelve pictures: cats 0-5, dogs 6-11; cats 4 and 5 and dog 6 mistaken."""
    truth, guesses = [0] * 6 + [1] * 6, [0, 0, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1]
    return make_evidence([CAT, DOG], paths, truth, guesses, learning_curve=CURVE)


def page_of(evidence, classes=(CAT, DOG), counts=None):
    return Page(render_report(make_model(classes, counts), evidence))


def section(page, id):
    return page.html.split(f'id="{id}"')[1].split("</section>")[0]


def test_headline_holds_accuracy_interval_and_coverage(pets):
    text = page_of(pets).text
    low, high = pets.measures["accuracy_interval"]
    assert f"75.0 % right; 95 % interval {100 * low:.1f} % to {100 * high:.1f} %" in text
    assert "On 12 test pictures, kept back from training. Every picture is counted: coverage 100 %." in text


def test_cross_validation_is_told_from_a_test(paths):
    text = page_of(make_evidence([CAT, DOG], paths, [0, 1] * 6, [0, 1] * 6, tested=False)).text
    assert "By cross-validation on 12 pictures" in text
    assert "kept back" not in text


def test_accuracy_over_a_threshold_has_its_coverage_beside_it(paths):
    evidence = make_evidence([CAT, DOG], paths, [0, 1] * 6, [0, 1] * 6, np.linspace(0.55, 0.99, 12), threshold=0.8)
    text = page_of(evidence).text
    assert "confidence 0.8 or more 100.0 % right; coverage 41.7 %" in text
    assert "threshold accuracy, coverage 41.7 %" in text
    assert "missed 7" in text


def test_page_fetches_nothing(pets):
    page = page_of(pets)
    assert page.values("src")
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.values("src"))
    assert all(link.startswith("#") and link[1:] in page.values("id") for link in page.values("href"))
    assert {tag for tag, _ in page.tags} <= TAGS
    assert not re.search(r"https?:|url\(|@import", re.sub('base64,[^"]*', "", page.html))
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]


def test_policy_of_the_page_forbids_all_but_its_own_pictures_and_style(pets):
    (policy,) = (meta["content"] for meta in page_of(pets).all("meta") if "http-equiv" in meta)
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives.pop("style-src").startswith("'sha256-")
    assert directives == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}


def test_names_are_text_whatever_they_hold(tmp_path):
    names = [name.replace("/", "∕") + ".jpg" for name in HOSTILE]
    paths = make_pictures(tmp_path, names)
    truth = range(len(HOSTILE))
    skipped = [{"path": name, "reason": f"{name}: {name}"} for name in HOSTILE]
    places = {"model_dir": "/" + HOSTILE[0], "data": HOSTILE[1]}
    evidence = make_evidence(HOSTILE, paths, truth, np.roll(truth, 1), skipped=skipped, **places)
    page = page_of(evidence, HOSTILE)
    assert {tag for tag, _ in page.tags} <= TAGS
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    for name in [*HOSTILE, *names]:
        assert name in page.text


def test_name_that_is_no_text_is_shown_all_the_same(tmp_path):
    label, name = "caf\udce9\x07", b"caf\xe9\x01.jpg".decode("utf-8", "surrogateescape")
    evidence = make_evidence([label, DOG], make_pictures(tmp_path, [name]), [0], [1])
    page = page_of(evidence, (label, DOG))
    assert "caf\ufffd\ufffd.jpg" in page.text
    page.html.encode()


def test_cell_of_the_matrix_opens_its_pictures_surest_mistake_first(pets):
    page = page_of(pets)
    (link,) = (link for link in page.all("a") if link.get("aria-label") == "2: cat taken for dog")
    found = section(page, link["href"][1:])
    assert re.findall(r"<bdi>(\d+\.jpg)", found) == ["5.jpg", "4.jpg"]
    assert found.count("<img") == 2
    assert f"{pets.judged.probabilities[5].max():.1%}".replace("%", " %") in found


def test_right_guesses_are_shown_least_sure_first(pets):
    found = section(page_of(pets), "cell-0-0")
    assert re.findall(r"<bdi>(\d+\.jpg)", found) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


def test_worst_mistakes_have_a_heat_map_beside_them(pets):
    found = page_of(pets).html.split("Worst mistakes")[1].split("</ul>")[0]
    assert re.findall(r"<bdi>(\d+\.jpg)", found) == ["6.jpg", "5.jpg", "4.jpg"]
    assert found.count("<img") == 6
    first, second = re.findall(r'src="([^"]*)"', found)[:2]
    assert first != second


def test_report_without_heat_maps_loads_no_tensorflow(pets, monkeypatch):
    monkeypatch.setattr(trained, "needs_tensorflow", lambda model: True)
    monkeypatch.setattr(trained, "heat", lambda *_arguments: pytest.fail("a heat map was asked for"))
    found = page_of(pets).html.split("Worst mistakes")[1].split("</ul>")[0]
    assert found.count("<img") == 3


def test_picture_that_is_gone_leaves_a_place(pets, paths):
    paths[5].unlink()
    paths[4].write_bytes(b"no picture")
    found = section(page_of(pets), "cell-0-1")
    assert (found.count("no picture"), found.count("<img")) == (2, 0)
    assert "5.jpg" in found


def test_shortcut_is_shown_with_examples_only_where_flagged(pets):
    shortcut = {
        "flagged": True, "classes": [DOG], "pictures": 9, "examples": [7, 8],
        "object_masked": 0.8, "background_masked": 0.2,
    }  # fmt: skip
    page = page_of(replace(pets, shortcut=shortcut))
    found = page.html.split("Warning: it may look at the background")[1].split("</section>")[0]
    assert found.count("<img") == 6
    assert "80.0 %" in found and "20.0 %" in found
    assert "background" not in page_of(replace(pets, shortcut=shortcut | {"flagged": False})).text


@pytest.mark.parametrize("tested", [True, False])
def test_one_picture_is_enough(paths, tested):
    page = page_of(make_evidence([CAT, DOG], paths[:1], [0], [0], tested=tested))
    assert "100.0 % right" in page.text
    assert "Worst mistakes" not in page.text


def test_page_without_any_judged_picture_says_so():
    nothing = np.empty((0, 2), np.float32)
    judged = Judged([], np.empty(0, int), nothing, np.empty(0, bool))
    page = page_of(Evidence(judged, summarize(nothing, judged.truth, [CAT, DOG])))
    assert "not measured" in page.text
    assert not page.all("svg") or all("bar" in svg.get("class", "") for svg in page.all("svg"))
    assert {CAT, DOG} <= set(page.text.split())


def test_many_classes_are_pairs_not_a_matrix(paths):
    classes = [f"class {number}" for number in range(60)]
    evidence = make_evidence(classes, paths, [0] * 8 + [1, 2, 3, 4], [1] * 8 + [1, 2, 3, 5])
    page = page_of(evidence, classes)
    assert 'class="matrix"' not in page.html
    assert [link["aria-label"] for link in page.all("a") if "aria-label" in link] == [
        "8: class 0 taken for class 1", "1: class 4 taken for class 5",
    ]  # fmt: skip
    assert 'class="matrix"' in page_of(make_evidence(classes[:40], paths, [0] * 12, [1] * 12), classes[:40]).html


@pytest.mark.parametrize("classes", [40, 1_000])
def test_thousands_of_mistakes_stay_below_twenty_megabytes(tmp_path, classes):
    random, names = np.random.default_rng(0), [f"{number:04} " + "&" * 240 for number in range(classes)]
    paths = make_pictures(tmp_path, [f"{number}" + "&" * 240 + ".jpg" for number in range(20)], (400, 400))
    truth, guesses = random.integers(0, classes, (2, 6_000))
    skipped = [{"path": "&" * 4_000, "reason": f"reason {number % 500}: {'<' * 200}"} for number in range(5_000)]
    evidence = make_evidence(names, [paths[row % 20] for row in range(6_000)], truth, guesses, skipped=skipped)
    page = render_report(make_model(names), evidence)
    assert page.count("<img") > 50
    assert len(page.encode()) < 20_000_000


def test_skipped_files_are_grouped_by_reason_and_cut_short(pets):
    skipped = [{"path": f"{number}.gif", "reason": f"truncated: byte {number}"} for number in range(NAMED + 5)]
    page = page_of(replace(pets, skipped=[*skipped, {"path": "x.txt", "reason": "not_an_image"}]))
    assert f"truncated: {NAMED + 5}" in page.text
    assert "… and 5 more" in page.text
    assert "x.txt : not_an_image" in page.text
    assert "every file was a picture" in page_of(pets).text


def test_commands_name_the_model_where_it_is_elsewhere(pets, monkeypatch):
    monkeypatch.setenv("TF_FILES", "/here")
    text = page_of(replace(pets, model_dir="/my models/it's")).text
    assert """retrain guess --model-dir '/my models/it'"'"'s' picture.jpg""" in text
    assert "retrain guess picture.jpg" in page_of(replace(pets, model_dir="/here/model")).text


def test_options_of_the_training_are_told_where_they_ask_for_something(pets):
    model = make_model([CAT, DOG])
    model.info["options"] = {"split": "content", "only": ("a", "b"), "group_by": "", "backbone": None, "seed": 0}
    assert "options split content, only a,b, seed 0 versions" in Page(render_report(model, pets)).text


def test_unknown_figures_are_shown_where_they_were_measured(pets):
    measured = {
        "reject_rate": 0.05, "calibrated_on": 80, "images": 7, "auroc": 0.981, "auroc_interval": [0.95, 0.99],
        "fpr95": 0.1, "fpr95_interval": [0.0, 0.3], "rejected": 0.9, "rejected_interval": [0.6, 1.0],
    }  # fmt: skip
    assert "was not measured" in page_of(pets).text
    text = page_of(replace(pets, data="photos", unknown=measured)).text
    assert "80 such pictures that were judged" in text
    few = replace(pets, data="photos", unknown=measured | {"calibrated_on": 7})
    assert "calls no picture unknown: 7 pictures are too few" in page_of(few).text
    assert "0.981" in text and "of 7 in _unknown/" in text and "about 5.0 % may be called unknown" in text


def test_page_of_other_pictures_says_whose_and_has_no_learning_curve(pets):
    text = page_of(replace(pets, data="photos/test", learning_curve=None), counts={CAT: 777}).text
    assert "measured on photos/test" in text
    assert "Would more pictures help?" not in text
    assert "777" not in text


def test_charts_have_words_for_those_who_do_not_see_them(pets):
    page = page_of(pets)
    charts = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(charts) == 3
    for chart in charts:
        assert set(chart["aria-labelledby"].split()) <= set(page.values("id"))
    assert page.text.count("as a table") == 3
    assert all("alt" in image for image in page.all("img"))


def test_written_page_takes_the_place_of_such_a_page_alone(pets, tmp_path):
    ours, theirs = tmp_path / "page.html", tmp_path / "theirs.html"
    model = make_model([CAT, DOG])
    for _ in range(2):
        write_report(model, pets, ours)
    assert ours.read_text("utf-8") == render_report(model, pets)
    theirs.write_text("mine")
    with pytest.raises(RetrainError, match="is there already"):
        write_report(model, pets, theirs)
    assert theirs.read_text() == "mine"
    with pytest.raises(RetrainError, match="cannot be written"):
        write_report(model, pets, tmp_path / "nowhere" / "page.html")
