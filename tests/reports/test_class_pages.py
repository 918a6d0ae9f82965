"""Pages about classifiers: many classes, few images, nothing to see."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from kinsight.metrics import (
    choose_thresholds,
    classification_metrics,
    fit_temperature,
    multilabel_metrics,
    reliability,
)
from kinsight.reports.class_table import class_rows
from kinsight.reports.classified import Classified
from kinsight.reports.evaluated import Report
from kinsight.reports.page import report_page
from kinsight.specs.report import ReportSpec


def one_class(images: int, classes: int, *, right: float = 0.5, **further: object) -> Classified:
    generator = torch.Generator().manual_seed(0)
    label_N = torch.randint(classes, (images,), generator=generator)
    logit_NC = torch.randn(images, classes, generator=generator)
    known_N = torch.rand(images, generator=generator) < right
    logit_NC[known_N, label_N[known_N]] += 9
    confidence_N, predicted_N = logit_NC.softmax(1).max(1)
    sure = reliability(confidence_N, predicted_N == label_N)
    result = classification_metrics(logit_NC, label_N, (5,))
    return Classified(
        [f"class <{number}>" for number in range(classes)], logit_NC, label_N, uris(images),
        result.means | {"ece": sure.ece, "classes": classes, "images": images},
        sure, sure, fit_temperature(logit_NC, label_N), one=result, **further,  # type: ignore[arg-type]
    )  # fmt: skip


def several_labels(images: int, labels: int, *, empty: int = 0) -> Classified:
    generator = torch.Generator().manual_seed(1)
    target_NC = (torch.rand(images, labels, generator=generator) < 0.2).to(torch.int8)
    target_NC[:, :empty] = 0
    target_NC[0, -1] = -1
    logit_NC = torch.randn(images, labels, generator=generator) + 2 * target_NC
    probability_NC = logit_NC.sigmoid()
    half_C = torch.full((labels,), 0.5, dtype=torch.float64)
    result, chosen = multilabel_metrics(probability_NC, target_NC), choose_thresholds(probability_NC, target_NC)
    at_chosen = multilabel_metrics(probability_NC, target_NC, chosen.threshold_C)
    sure = reliability(probability_NC, target_NC)
    return Classified(
        [f"label {number}" for number in range(labels)], logit_NC, target_NC, uris(images),
        result.means | {"ece": sure.ece, "labels": result.num_labels, "images": images},
        sure, sure, fit_temperature(logit_NC, target_NC), several=result, threshold_C=half_C, chosen=chosen,
        at_chosen=at_chosen,
    )  # fmt: skip


def uris(images: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([f"/nowhere/{number}.png" for number in range(images)], pa.string())])


def page(found: Classified) -> str:
    return report_page(Report("A page", classified=found), ReportSpec(), device=torch.device("cpu"))


def test_many_classes_show_the_most_confused() -> None:
    text = page(one_class(2000, 100))
    assert "Shown are the 30 classes with the most mistakes" in text
    cells = re.findall(r'<rect class="(?:hit|miss)"', text)
    assert 30 <= len(cells) <= 900
    assert "class &lt;7&gt;" in text and "class <7>" not in text
    assert "No pictures:" in text  # and their names all the same


def test_cells_say_how_many_images_they_hold() -> None:
    found = one_class(300, 5, right=0.7)
    assert found.one is not None
    confusion_CC = found.one.confusion_CC
    told = re.findall(r"<title>class &lt;(\d)&gt; → class &lt;(\d)&gt;: ([\d,]+) of ([\d,]+) images", page(found))
    assert len(told) == int((confusion_CC > 0).sum())
    for true, said, count, total in told:
        assert int(count) == int(confusion_CC[int(true), int(said)])
        assert int(total) == int(confusion_CC[int(true)].sum())


@pytest.mark.parametrize(("classes", "counted", "least"), [(6, True, 432), (20, True, 640), (21, False, 600)])
def test_few_classes_are_drawn_large_with_counts(classes: int, counted: bool, least: int) -> None:
    found = one_class(400, classes, right=0.7)
    assert found.one is not None
    figure = re.search(r'<figure class="confusion">.*?</figure>', page(found))
    assert figure is not None and ">is taken for</text>" in figure[0] and ">shows</text>" in figure[0]
    counts = [int(count) for count in re.findall(r'<text class="count"[^>]*>(\d+)</text>', figure[0])]
    assert sum(counts) == (400 if counted else 0)
    width = re.search(r'<rect class="frame"[^>]* width="(\d+)"', figure[0])
    assert width is not None and int(width[1]) >= least


def test_only_measured_probabilities_have_dots() -> None:
    found = one_class(300, 5)
    figure = re.search(r"<b>How often it is so</b>.*?</svg>", page(found))
    bins = int((found.reliability.count_K > 0).sum())
    assert figure is not None and figure[0].count("<circle") == 2 * bins  # without and with the temperature found


@pytest.mark.parametrize(("images", "classes", "right"), [(1, 1, 1.0), (1, 2, 0.0), (3, 2, 1.0), (50, 3, 1.0)])
def test_few_images(images: int, classes: int, right: float) -> None:
    text = page(one_class(images, classes, right=right))
    assert "nan" not in text.lower().split("<script")[0]
    assert ("None: what is said of the images is always right" in text) == (right == 1.0 or classes == 1)


def test_nothing_more_than_wanted() -> None:
    text = page(one_class(60, 4, num_pictures=0, each_class=False))
    assert "Mistakes, the worst first" not in text and "Every class" not in text
    assert "How sure it may be" in text


def test_labels_without_images_say_so() -> None:
    found = several_labels(80, 12, empty=2)
    text = page(found)
    assert "10 of the 12 labels occur" in text and "Labels that no image shows are in no mean" in text
    assert "nobody knows the truth" in text
    head, rows = class_rows(found)
    assert len(rows) == 12
    assert [row[0] for row in rows[-2:]] == ["label 0", "label 1"]  # of which nothing is known, last
    assert rows[-1][head.index("ap")] is None
    aps = [row[head.index("ap")] for row in rows[:-2]]
    assert aps == sorted(aps)


def test_the_worst_come_first() -> None:
    found = several_labels(60, 6)
    surprise_N = found.surprise_N.numpy()
    wrong = np.flatnonzero(~found.right_N.numpy())
    worst = wrong[np.argsort(-surprise_N[wrong], kind="stable")][0]
    names = re.findall(r"/nowhere/(\d+)\.png", page(found).replace("<wbr>", ""))
    assert int(names[0]) == worst


def test_thresholds_that_are_the_models_own_are_told_once() -> None:
    found = several_labels(60, 6)
    assert found.chosen is not None
    assert "Chosen here" in page(found)
    own = replace(found, threshold_C=found.chosen.threshold_C, several=found.at_chosen)
    assert "Chosen here" not in page(own)
    assert class_rows(own)[0][-1] == "threshold"


@pytest.mark.parametrize(("right", "wanted"), [(0.9, 10), (0.5, 10), (0.5, 70), (1.0, 200)])
def test_no_more_pictures_than_wanted(right: float, wanted: int) -> None:
    found = one_class(60, 4, right=right, num_pictures=wanted)
    wrong = int((~found.right_N).sum())
    text = page(found)
    told = {anchor: text.partition(f'id="{anchor}"')[2].partition("</section>")[0] for anchor in ("wrong", "right")}
    shown = {
        anchor: len(set(re.findall(r"/nowhere/\d+\.png", part.replace("<wbr>", "")))) for anchor, part in told.items()
    }
    assert shown == {"wrong": min(wrong, wanted), "right": min(60 - wrong, max(0, wanted - wrong))}
    assert ('href="#right"' in text) == (wanted > wrong)


def test_thresholds_that_were_chosen_here_say_so() -> None:
    found = several_labels(200, 6)
    assert found.chosen is not None and found.at_chosen is not None
    bounds = {"map.low": 0.1, "map.high": 0.9}
    metrics = {**found.metrics, **bounds, "chosen/cf1": found.at_chosen.means["cf1"]}
    kept = replace(found, metrics=metrics).kept()
    text = page(kept)
    assert "chosen on these very images" in text and "CF1, thresholds chosen here" in text
    assert "10.0 % to 90.0 %" in text and "95 % interval" in text
    assert "chosen on these very images" not in page(found)
    assert torch.equal(kept.right_N, ~found.at_chosen.wrong_N)
    probability_NC = (kept.logit_NC / found.fitted.temperature).sigmoid()
    for row in range(200):
        said = (probability_NC[row] >= found.chosen.threshold_C).nonzero().squeeze(1).tolist()
        assert kept.said(row) == said


def test_labels_nobody_knows_are_not_among_what_is_said() -> None:
    found = several_labels(30, 4)
    assert found.threshold_C is not None
    always = replace(found, threshold_C=torch.zeros_like(found.threshold_C))
    assert always.said(0) == [0, 1, 2] and always.said(1) == [0, 1, 2, 3]


def test_where_labels_are_unknown_none_known_is_not_none() -> None:
    """Image 0: nothing known; 1: one label known not to be there; 2: known to show none; 3: one known to show."""
    found = several_labels(40, 3)
    target_NC = found.target.clone()
    target_NC[:4] = torch.tensor([[-1, -1, -1], [0, -1, -1], [0, 0, 0], [1, -1, 0]])
    probability_NC = found.logit_NC.sigmoid()
    result = multilabel_metrics(probability_NC, target_NC)
    found = replace(found, target=target_NC, several=result, num_pictures=100)
    rows = re.findall(r"<td>/nowhere/(\d+)\.png<td>([^<]*)", page(found).replace("<wbr>", ""))
    told = {int(row): words for row, words in rows}
    assert 0 not in told, "neither right nor wrong"
    assert (told[1], told[2], told[3]) == ("no label known", "no label", "label 0")
    assert len(told) == 39
