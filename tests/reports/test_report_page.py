"""The report as a page: whole, self-contained, and harmless whatever classes and files are called."""

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from browser import needs_browser, open_page
from report_cases import HOSTILE, clusters, evaluation, with_pictures

from kinsight.reports.evaluated import Report, Trained
from kinsight.reports.html import breakable
from kinsight.reports.page import report_page, write_report
from kinsight.specs.report import ReportSpec

CPU = torch.device("cpu")
FAST = ReportSpec(map="pca")
NAMES = ["short", "training", "wrong", "right", "hard", "confused", "pairs", "map", "run"]


class Page(HTMLParser):
    """Tags, attributes and texts as a browser has them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.islands: dict[str, str] = {}
        self._island = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._island = (dict(attrs).get("id") or "-") if tag == "script" else ""

    def handle_endtag(self, tag: str) -> None:
        self._island = ""

    def handle_data(self, data: str) -> None:
        if self._island:
            self.islands[self._island] = self.islands.get(self._island, "") + data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def rows() -> list[dict[str, object]]:
    train = [{"kind": "train", "step": s, "loss": 5.0 / s, "lr": 0.1} for s in range(1, 901)]
    train[3]["loss"], train[4]["loss"] = None, float("nan")
    judged = [{"kind": "validation", "step": s, "recall@1": s / 900} for s in range(90, 901, 90)]
    return [*train, *judged]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    items = with_pictures(clusters(12, 6, spread=1.0), tmp_path_factory.mktemp("pictures"))
    broken = [("pictures/<b>x</b>.jpg", "cut off \u202e")]
    return Report(
        title='Run <i>"x"',
        trained=Trained(rows(), "recall@1"),
        evaluated=evaluation(items),
        facts=[("model", "<model>")],
        settings="a: <b>\n  c: 1",
        broken=broken,
    )


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    return report_page(report, FAST, device=CPU)


def test_every_part_is_there_and_linked(text: str) -> None:
    page = Page(text)
    assert [tag["id"] for tag in page.all("section")] == NAMES
    assert [tag["href"] for tag in page.all("a")] == [f"#{name}" for name in NAMES]
    for words in ("How often the most similar image shows the same class.", "95 % interval", "50.0 % to 90.0 %",
                  "Not measurable: too few <pairs>", "threshold 0.5", "100,000 are needed", "the best model, by recall",
                  "Images that could not be read: 1", "no interval"):  # fmt: skip
        assert words in page.text, words


def test_nothing_comes_from_elsewhere(text: str) -> None:
    page = Page(text)
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#")), value
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"https?://|@import|url\(", text.replace("http-equiv", ""))
    assert "default-src 'none'" in text


def test_hostile_names_are_text(text: str) -> None:
    page = Page(text)
    assert "\u202e" not in text
    assert "<script>alert" not in text and "<img src=x" not in text
    assert HOSTILE[0] in page.text and "Ölpumpe" in page.text and "الحذاء" in page.text
    assert {tag["type"] for tag in page.all("script") if "id" in tag} == {"application/json", "text/plain"}
    assert HOSTILE[0] in json.loads(page.islands["map-about"])["classes"]
    assert all(json.loads(page.islands[name]) for name in ("loss", "validation", "rate", "similarities", "tradeoff"))


def test_right_and_wrong_differ_not_only_by_colour(text: str) -> None:
    for kind, mark in (("right", "✓"), ("wrong", "✗")):
        found = re.findall(rf'<figure class="tile {kind}".*?</figure>', text)
        assert found and all(mark in tile for tile in found)


def test_same_input_same_page(report: Report, text: str) -> None:
    assert report_page(report, FAST, device=CPU) == text


def test_no_images_at_all() -> None:
    page = Page(report_page(Report("x", evaluated=evaluation(clusters(12, 6, spread=1.0))), FAST, device=CPU))
    assert not page.all("img")
    assert "the embeddings name no image" in page.text
    assert "row " in page.text and HOSTILE[4] in page.text
    assert page.islands["map-pictures"]


def test_some_images_are_broken(tmp_path: Path) -> None:
    items = with_pictures(clusters(4, 6, spread=1.0), tmp_path)
    for uri in items.uris[:9]:
        Path(uri).write_bytes(b"no image")
    page = Page(report_page(Report("x", evaluated=evaluation(items)), FAST, device=CPU))
    assert page.all("img") and "not readable" in page.text
    assert "15 of 24 items have a picture" in page.text


@pytest.mark.parametrize(("classes", "each"), [(2, 2), (5, 2), (1, 10)])
def test_very_few_items(classes: int, each: int) -> None:
    found = evaluation(clusters(classes, each, spread=0.1), pairs=classes > 1)
    found = replace(found, metrics={"recall@1": 1.0}, reasons={"verification": "one class"})
    for kind in ("tsne", "pca", "none"):
        page = Page(report_page(Report("x", evaluated=found), ReportSpec(map=kind), device=CPU))  # type: ignore[arg-type]
        assert ("map" in [tag.get("id") for tag in page.all("section")]) == (kind != "none")
    assert classes > 1 or "Not measurable: one class" in page.text
    assert "always shows the query's class" in page.text


def test_queries_and_gallery(tmp_path: Path) -> None:
    query, gallery = clusters(5, 3, spread=1.0), clusters(5, 4, spread=1.0)
    page = Page(report_page(Report("x", evaluated=evaluation(query, gallery)), FAST, device=CPU))
    assert "15 images were searched for in a gallery of 20" in page.text
    about = json.loads(page.islands["map-about"])
    assert about["gallery"] and about["count"] == 35


def test_without_evaluation_the_page_says_what_is_missing() -> None:
    page = Page(report_page(Report("x", trained=Trained([], None), missing="No <validation>"), FAST, device=CPU))
    assert "No <validation>" in page.text and "no training step was logged" in page.text
    text = report_page(Report("x", trained=Trained(rows()[:900], None), missing="How:\nkinsight x"), FAST, device=CPU)
    assert "<p>How:</p><pre>kinsight x</pre>" in text and "there was no validation set" in text
    assert text.count('<figure class="chart">') == 2, "no empty third"
    assert [tag["id"] for tag in page.all("section")] == ["short", "training", "run"]


def test_only_long_words_break_and_their_text_stays() -> None:
    assert breakable("duplicates of <b>") == "duplicates of &lt;b&gt;"
    for word in ("s3://bucket/folder/of_images/plain-1.jpg", "a" * 70, "/" * 60, "&" * 40):
        broken = breakable(f"in {word} here")
        assert "<wbr>" in broken and html.unescape(broken.replace("<wbr>", "")) == f"in {word} here"
        assert max(len(html.unescape(part)) for part in broken.split("<wbr>")) <= 30


def test_written_whole_at_its_place(report: Report, text: str, tmp_path: Path) -> None:
    place = write_report(str(tmp_path / "out"), report, FAST)
    assert str(place) == str(tmp_path / "out/report/index.html")
    assert (tmp_path / "out/report/index.html").read_text(encoding="utf-8") == text
    assert [path.name for path in (tmp_path / "out/report").iterdir()] == ["index.html"]


@needs_browser
def test_scripts_run_in_a_browser(text: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    with open_page((tmp_path / "index.html").as_uri()) as shown:
        shown.wait("document.body.innerText.includes('72 items')")
        page = Page(shown.evaluate("document.documentElement.outerHTML"))
        assert not shown.errors
    assert "72 items, 12 classes" in page.text, "the map's script has counted them"
    assert len([tag for tag in page.all("div") if tag.get("class") == "told"]) == 5, "one for each chart"
    assert not [tag for tag in page.all("img") if tag.get("src") == "x"]
