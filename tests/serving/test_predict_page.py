"""The page of a classifier in a browser: an image in, bars with thresholds out; beside an index, both pages."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Page, needs_browser, open_page

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

from classifier_bundles import make_classifier
from small_set import NAMES, picture

import kinsight
from kinsight.data.thumbnails import encoded
from kinsight.indexing import build
from kinsight.models import write_calibration
from kinsight.serving.engine import Engine
from kinsight.serving.serve import _told, in_background
from kinsight.specs.serve import ServeSpec

pytestmark = needs_browser
MANY = tuple(f"{name} <i>{number}</i>" for number in range(5) for name in NAMES)
TITLE = "document.querySelector('h1')?.textContent"
ABOUT = "document.getElementById('about').textContent"
BARS = "document.querySelectorAll('#chances li').length"
FIRST = "document.querySelector('#chances b').textContent"
MESSAGE = "document.getElementById('message').textContent"
VERDICT = "document.getElementById('verdict').textContent"


def drop(page: Page, label: int, number: int) -> None:
    data, kind = encoded(picture(label, number))
    page.evaluate(f"""(() => {{
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array({list(data)})], "x", {{type: {kind!r}}}));
        dispatchEvent(Object.assign(new Event("drop", {{cancelable: true}}), {{dataTransfer: data}}));
    }})()""")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    bundle = make_classifier(tmp_path_factory.mktemp("labels") / "bundle", task="multilabel")
    write_calibration(bundle, temperature=1.7, label_thresholds=[0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    with in_background(ServeSpec(bundle=str(bundle), port=0, max_upload_mb=1, precision="fp32")) as address:
        yield address, bundle


def test_labels_are_shown_with_their_thresholds(labels: tuple[str, Path]) -> None:
    address, bundle = labels
    data, _ = encoded(picture(3, 1))
    (expected,) = kinsight.load(bundle, device="cpu", precision="fp32").predict([data])
    with open_page(address) as page:
        page.wait("document.getElementById('about').textContent.includes('6 labels')")
        about = page.evaluate("document.getElementById('about').textContent")
        assert "said from 20.0 % to 70.0 % on; temperature 1.7;" in about
        assert page.evaluate("document.getElementById('pages').hidden")
        drop(page, 3, 1)
        page.wait(f"{BARS} === 6")
        assert page.evaluate(FIRST) == max(expected["class_probs"], key=expected["class_probs"].get)
        said = page.evaluate("[...document.querySelectorAll('#chances .yes b')].map((node) => node.textContent)")
        assert sorted(said) == sorted(expected["class_names"]) and said
        shares = page.evaluate(
            "[...document.querySelectorAll('#chances i')].map((node) => parseFloat(node.style.width))"
        )
        assert shares == pytest.approx(sorted((100 * share for share in expected["probs"]), reverse=True), abs=0.01)
        marks = page.evaluate("[...document.querySelectorAll('#chances u')].map((node) => parseFloat(node.style.left))")
        assert sorted(marks) == pytest.approx([20, 30, 40, 50, 60, 70])
        assert page.evaluate(VERDICT).startswith(", ".join(said))
        page.resize(360, 740, phone=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert not page.errors


def test_what_cannot_be_predicted_is_told(labels: tuple[str, Path]) -> None:
    with open_page(labels[0]) as page:
        drop(page, 3, 1)
        page.wait(f"{BARS} === 6")
        page.evaluate("ask(new File(['no image'], 'note.txt', {type: 'text/plain'}))")
        page.wait(f"{MESSAGE}.includes('none of the known formats')")
        assert page.evaluate(BARS) == 0 and page.evaluate("document.getElementById('verdict').hidden")
        page.evaluate("ask(new File([new Uint8Array(2000000)], 'large.png', {type: 'image/png'}))")
        page.wait(f"{MESSAGE}.includes('2.0 MB; the server takes up to 1 MB')")


def test_one_class_of_many_beside_an_index(tmp_path: Path) -> None:
    bundle = make_classifier(tmp_path / "bundle", task="classification", names=MANY[:24])
    for label in range(6):
        (tmp_path / "images" / str(label)).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "images" / str(label) / f"{number}.png").write_bytes(encoded(picture(label, number))[0])
    data = {"path": str(tmp_path / "images"), "format": "folder"}
    kinsight.embed({"bundle": str(bundle), "data": data, "output": str(tmp_path / "embeddings"), "workers": 0})
    build({"embeddings": str(tmp_path / "embeddings"), "output": str(tmp_path / "index")})
    spec = ServeSpec(bundle=str(bundle), index=str(tmp_path / "index"), port=0)
    with in_background(spec) as address, open_page(address) as page:
        page.wait(f"!document.getElementById('pages').hidden && {TITLE} === 'Search by image'")
        page.evaluate("document.querySelector('#pages a:not([aria-current])').click()")
        page.wait(f"document.readyState === 'complete' && {TITLE} === 'What an image shows'")
        page.wait(f"{ABOUT}.startsWith('24 classes')")
        drop(page, 3, 1)
        page.wait(f"{BARS} === 20")
        assert page.evaluate(VERDICT).startswith(page.evaluate(FIRST)) and "<i>" in page.evaluate(FIRST)
        assert page.evaluate("document.querySelectorAll('#chances u, #chances b i').length") == 0
        assert page.evaluate("document.getElementById('all').textContent") == "All 24 classes"
        page.evaluate("document.getElementById('all').click()")
        page.wait(f"{BARS} === 24 && document.getElementById('all').hidden")
        assert not page.errors


def test_the_start_tells_classes_and_addresses(labels: tuple[str, Path], server: str) -> None:
    with Engine(ServeSpec(bundle=str(labels[1]))) as engine:
        told = "\n".join(_told(engine, "http://here:1"))
    assert "threshold " not in told and "accepted" not in told
    assert f"6: {', '.join(NAMES)}; each is said from 0.2 to 0.7 on" in told
    assert "POST http://here:1/v1/predict" in told
    info = json.loads(urllib.request.urlopen(f"{labels[0]}/v1/info", timeout=20).read())["classifier"]
    assert info["names"] == list(NAMES) and info["thresholds"] == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert json.loads(urllib.request.urlopen(f"{server}/v1/info", timeout=20).read())["classifier"] is None
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{server}/predict", timeout=20)
