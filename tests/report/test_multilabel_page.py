import re
from dataclasses import replace

import numpy as np
import pytest
from pages import make_model, make_pictures

from retrain.errors import RetrainError
from retrain.multilabel.metrics import JudgedLabels, summarize
from retrain.report import LabelEvidence, render_multilabel, write_multilabel

NAMES = ["anna", "ben", "<script>alert(1)</script>"]
TRUTH = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 1]], bool)


@pytest.fixture
def model():
    model = make_model(NAMES)
    return replace(model, head=replace(model.head, thresholds=np.array([0.5, 0.4, 0.3], np.float32)))


@pytest.fixture
def evidence(tmp_path):
    """Six pictures: ben is missed on the first, anna told of the fifth, which shows none."""
    paths = make_pictures(tmp_path, [f"{number} <b>.jpg" for number in range(6)])
    probabilities = np.where(TRUTH, 0.9, 0.1).astype(np.float32)
    probabilities[0, 1], probabilities[4, 0] = 0.2, 0.8
    told = probabilities >= [0.5, 0.4, 0.3]
    measures = summarize(probabilities, told, TRUTH, NAMES)
    scores = {name: {"threshold": 0.4321, **row} for name, row in measures["per_class"].items()}
    judged = JudgedLabels(paths, TRUTH, probabilities, told, np.full(6, True))
    return LabelEvidence(judged, measures, scores, 60, advice=["Add more of <i>ben</i>."])


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.split("<body>")[1]))


def test_page_holds_mean_average_precision_and_each_label(model, evidence):
    text = text_of(render_multilabel(model, evidence))
    low, high = evidence.measures["mean_average_precision_interval"]
    assert "A model of 3 labels" in text
    assert f"{100 * evidence.measures['mean_average_precision']:.1f} %" in text
    assert f"95 % interval {100 * low:.1f} % to {100 * high:.1f} %" in text
    assert "On 6 test pictures, kept back from training." in text
    assert text.count("43.2 %") == 3
    assert "Add more of &lt;i&gt;ben&lt;/i&gt;." in text


def test_page_shows_labels_wrongly_told_and_missed(model, evidence):
    text = text_of(render_multilabel(model, evidence))
    invented, missed = text.split("Told, and not there")[1].split("There, and missed")
    assert "anna is not marked, 80.0 %; marked: nothing" in invented
    assert re.search(r"ben was missed, 20\.0 % ?; marked: anna, ben", missed)


def test_page_without_mistakes_shows_none(model, evidence):
    judged = replace(evidence.judged, told=TRUTH)
    assert "There, and missed" not in render_multilabel(model, replace(evidence, judged=judged))


def test_names_are_text_and_nothing_is_fetched(model, evidence):
    html = render_multilabel(model, evidence)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "0 &lt;b&gt;.jpg" in html
    assert not re.search(r"https?:|url\(|@import", re.sub('base64,[^"]*', "", html))
    assert all(link.startswith("data:image/jpeg;base64,") for link in re.findall(r'src="([^"]*)"', html))


def test_picture_that_is_gone_leaves_its_words(model, evidence):
    for path in evidence.judged.paths:
        path.unlink()
    assert "anna is not marked" in text_of(render_multilabel(model, evidence))


def test_page_of_other_pictures_names_them_and_those_learned(model, evidence):
    text = text_of(render_multilabel(model, replace(evidence, data="holiday", learned=2)))
    assert "measured on holiday" in text
    assert "2 of them were learned by this model" in text


def test_strangers_without_a_label_are_told(model, evidence):
    unknown = {"images": 7, "rejected": 6 / 7, "rejected_interval": [0.49, 0.97]}
    text = text_of(render_multilabel(model, replace(evidence, unknown=unknown)))
    assert re.search(r"without a label, of 7 in _unknown/ 85\.7 % ?49\.0 % to 97\.0 %", text)


def test_page_is_written_over_nothing_but_such_a_page(model, evidence, tmp_path):
    page = tmp_path / "page.html"
    write_multilabel(model, evidence, page)
    write_multilabel(model, evidence, page)
    page.write_text("mine")
    with pytest.raises(RetrainError, match="is there already"):
        write_multilabel(model, evidence, page)
