"""Symbols drawn by hand: the picture the page sends, what the small demo finds, and the bench that counts it."""

import base64
import io
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Page, needs_browser, open_page
from PIL import Image

from kinsight.bench.strokes import SENT, STROKES, by_hand, pad_picture, strokes_of
from kinsight.bench.symbols import run
from kinsight.demo.alphabet import alphabet
from kinsight.demo.job import PREFERENCE
from kinsight.errors import SpecError
from kinsight.serving.serve import in_background
from kinsight.specs.bench import BenchSymbols
from kinsight.specs.load import of
from kinsight.specs.serve import ServeSpec

PAD = "((box) => [box.left, box.top, box.width])(document.getElementById('pad').getBoundingClientRect())"
NAMES = "[...document.querySelectorAll('#results b')].map((node) => node.textContent)"


@pytest.fixture(scope="module")
def place(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    assert demo[1].returncode == 0, demo[1].stderr
    return demo[0] / "out"


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    spec = ServeSpec(bundle=str(place / "run"), index=str(place / "index"), port=0, **PREFERENCE)
    with in_background(spec) as address:
        yield address


def draw(page: Page, strokes: list[np.ndarray]) -> None:
    """With the mouse, strokes in pixels of a pad of 640."""
    page.evaluate("document.getElementById('clear').click()")
    left, top, width = page.evaluate(PAD)
    for stroke in strokes:
        page.drag(*((left + x * width / 640, top + y * width / 640) for x, y in stroke))
    page.wait("document.querySelectorAll('#results li').length > 1 && !document.body.classList.contains('busy')")
    time.sleep(0.3)  # the last stroke's answer


def known(place: Path) -> list[str]:
    """Entries of STROKES whose character the small set has."""
    rows = [line.split("\t") for line in (place / "symbols/classes.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    there = {row[1] for row in rows}
    return [characters for characters in STROKES if there & set(characters)]


@needs_browser
def test_symbols_drawn_with_the_mouse_are_found(place: Path, address: str):
    rng, found = np.random.default_rng(3), {}
    wanted = [characters for characters in known(place) if characters not in ("1", "J")][:6]
    assert len(wanted) == 6
    with open_page(address) as page:
        page.wait("document.getElementById('about').textContent.includes('of 60 classes')")
        assert "ordinary classes rank as if 0.08 more similar" in page.evaluate(
            "document.getElementById('about').textContent"
        )
        for characters in wanted:
            draw(page, [stroke[::3] for stroke in by_hand(strokes_of(STROKES[characters]), rng)])
            names = [name.split()[0] for name in page.evaluate(NAMES)]
            assert len(names) == len(set(names)), names  # one entry per class
            found[characters] = bool(set(characters) & set(names[:5]))
        page.evaluate("document.getElementById('by-items').click()")
        page.wait(f"new Set({NAMES}).size < {NAMES}.length")  # pictures again, several of a class
        page.evaluate("document.getElementById('by-classes').click()")
        page.wait(f"new Set({NAMES}).size === {NAMES}.length")
        assert not page.errors
    assert sum(found.values()) >= 5, found


@needs_browser
def test_the_bench_draws_what_the_page_sends(address: str):
    keep = """(() => { const passed = window.fetch; window.fetch = async (place, how) => {
        const bytes = how ? new Uint8Array(await how.body.arrayBuffer()) : [];
        if (String(place).includes("search")) window.sent = btoa(String.fromCharCode(...bytes));
        return passed(place, how); }; })()"""
    strokes = [stroke[::4] for stroke in by_hand(strokes_of(STROKES["R"]), np.random.default_rng(0))]
    with open_page(address) as page:
        page.evaluate(keep)
        draw(page, strokes)
        sent = Image.open(io.BytesIO(base64.b64decode(page.evaluate("window.sent")))).convert("L")
    assert sent.size == (SENT, SENT)
    away = np.abs(np.asarray(sent, float) - np.asarray(pad_picture(strokes), float))
    assert away.mean() < 3, away.mean()  # the mouse has whole pixels only


def test_every_symbol_has_a_class_and_pictures_that_differ():
    named = {chr(code) for symbol in alphabet() for code in (symbol.code, *symbol.alike)}
    assert len(STROKES) >= 40
    rng = np.random.default_rng(0)
    for characters, text in STROKES.items():
        assert named & set(characters), characters
        one, other = (np.asarray(pad_picture(by_hand(strokes_of(text), rng)), float) for _ in range(2))
        assert (one < 128).mean() > 0.01 and np.abs(one - other).mean() > 1
    again = [pad_picture(by_hand(strokes_of(STROKES["A"]), np.random.default_rng(7))).tobytes() for _ in range(2)]
    assert again[0] == again[1]


def test_the_bench_counts(place: Path, tmp_path: Path):
    picture = tmp_path / "found.png"
    result = run(BenchSymbols(demo=str(place), times=1, picture=str(picture)))
    assert result["symbols"] == len(STROKES) and picture.stat().st_size > 0
    held = [n for n, name in enumerate(result["names"]) if name.replace(" ", "") in known(place)]
    for way in ("classes", "classes, ordinary preferred"):
        ranks = [result["listed"][way]["ranks"][n] for n in held]
        assert result["listed"][way]["among"] >= sum(rank is not None for rank in ranks) > 0.6 * len(held), (way, ranks)


def test_settings_of_the_bench_that_cannot_work_together_are_refused():
    for given, says in (
        ({"fonts": ["a.ttf"], "times": 2}, "times has no effect"),
        ({"symbols": 3}, "no effect without"),
    ):
        with pytest.raises(SpecError, match=says):
            of(BenchSymbols, given)
