"""The pictures that reports carry: written, of the right size, and showing what they were given."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kinsight.reports.captions import draw_line, fold, printable, shorten, text_width
from kinsight.reports.curves import curve, smooth
from kinsight.reports.gallery import (
    RIGHT,
    WRONG,
    Neighbour,
    Picture,
    Retrieval,
    retrieval_picture,
    training_picture,
)

ODD = [
    "中文类别名称",
    "",
    "𝔘𝔫𝔦🙂",
    "line\nbreak\tand\x00control",
    "\ud800 lone",
    "العربية",
    "x" * 500,
    "ế " * 80,
    "\u202eabc",
]


def image(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def retrieval(same: list[bool], caption: str = "class") -> Retrieval:
    neighbours = tuple(Neighbour(image(at, 40, 30, 3), caption, 0.9 - at / 10, ok) for at, ok in enumerate(same))
    return Retrieval(Picture(image(99, 32, 32), caption), neighbours)


def count(path: Path, color: tuple[int, int, int]) -> int:
    with Image.open(path) as opened:
        return int((np.asarray(opened) == color).all(axis=2).sum())


def test_frames_tell_right_from_wrong(tmp_path: Path) -> None:
    for name, same in (("right", [True] * 3), ("wrong", [False] * 3), ("mixed", [True, False, True])):
        retrieval_picture([retrieval(same)], tmp_path / f"{name}.png", title="Recall@1 0.93", note="600 classes")
    frame = 148 * 148 - 136 * 136
    assert count(tmp_path / "right.png", RIGHT) >= 3 * frame and count(tmp_path / "right.png", WRONG) == 0
    assert count(tmp_path / "wrong.png", WRONG) >= 3 * frame and count(tmp_path / "wrong.png", RIGHT) == 0
    assert 2 * frame <= count(tmp_path / "mixed.png", RIGHT) < 3 * frame
    assert frame <= count(tmp_path / "mixed.png", WRONG) < 2 * frame


def test_page_grows_with_rows_and_columns_and_shows_the_images(tmp_path: Path) -> None:
    sizes = []
    for rows, columns in ((1, 3), (2, 3), (2, 8)):
        path = tmp_path / f"{rows}x{columns}.png"
        retrieval_picture([retrieval([True] * columns)] * rows, path)
        with Image.open(path) as opened:
            sizes.append(opened.size)
            assert np.asarray(opened).std() > 20
    assert sizes[0][0] == sizes[1][0] < sizes[2][0] == 1600
    assert sizes[0][1] < sizes[1][1] == sizes[2][1]


def test_rows_of_different_length_and_any_image_shape(tmp_path: Path) -> None:
    shapes = [(32, 32), (32, 32, 1), (20, 90, 3), (300, 7, 3), (1, 1)]
    neighbours = tuple(Neighbour(image(at, *shape), "c", 0.5, True) for at, shape in enumerate(shapes))
    rows = [Retrieval(Picture(image(1, 8, 8), "q"), neighbours), Retrieval(Picture(image(2, 8, 8), "q"), ())]
    retrieval_picture(rows, tmp_path / "new" / "folder" / "page.png")
    assert (tmp_path / "new" / "folder" / "page.png").is_file()


@pytest.mark.parametrize("caption", ODD)
def test_odd_captions(caption: str, tmp_path: Path) -> None:
    retrieval_picture([retrieval([True, False], caption)], tmp_path / "page.png", title=caption, note=caption)
    with Image.open(tmp_path / "page.png") as opened:
        assert opened.format == "PNG"


def test_same_input_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        retrieval_picture([retrieval([True, False])], tmp_path / name, title="t")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_wrong_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        retrieval_picture([], tmp_path / "page.png")
    bad = Retrieval(Picture(np.zeros((4, 4, 3), np.float32), "q"), ())
    with pytest.raises(ValueError, match=r"uint8.*float32"):
        retrieval_picture([bad], tmp_path / "page.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [*ODD, "shelf/pumps/item_0001", "shelf/pumps/item_0002"])
@pytest.mark.parametrize("width", [5, 60, 148, 1000])
def test_shortened_and_folded_text_fits(text: str, width: int) -> None:
    least = text_width("…", size=18)
    for line in [shorten(text, width, size=18), *fold(text, width, lines=2, size=18)]:
        assert text_width(line, size=18) <= max(width, least)
    assert 1 <= len(fold(text, width, lines=2, size=18)) <= 2


def test_shortening_keeps_both_ends() -> None:
    cut = shorten("shelf/pumps/centrifugal/item_0001", 150, size=18)
    assert cut.startswith("shelf") and cut.endswith("01") and "…" in cut
    assert shorten("short", 150, size=18) == "short"


def test_folding_keeps_every_word_that_fits() -> None:
    assert fold("GREEK SMALL LETTER ALPHA", 150, lines=2, size=14) == ["GREEK SMALL", "LETTER ALPHA"]


def test_printable_is_one_plain_line() -> None:
    assert printable("a\n b\x00\u202e") == "a b"
    assert printable("\ud800") == "\ufffd"


def test_characters_outside_the_first_font_are_drawn() -> None:
    """STIX has script letters that DejaVu Sans lacks: drawn, not boxed."""
    pages = []
    for text in ("𝒜", "\U000e0fff", "A"):
        page = Image.new("RGB", (60, 60), "white")
        draw_line(ImageDraw.Draw(page), (5, 5), text, size=30, color=(0, 0, 0))
        pages.append(page.tobytes())
    assert len(set(pages)) == 3


def rows(steps: int) -> list[dict[str, object]]:
    train = [{"kind": "train", "step": s, "epoch": 0, "loss": 5.0 / s, "lr": 0.1} for s in range(1, steps + 1)]
    judged = [{"kind": "validation", "step": s, "epoch": 0, "recall@1": s / steps} for s in range(1, steps + 1, 3)]
    return [*train, *judged]


@pytest.mark.parametrize("given", [rows(100), rows(1), [], [{"kind": "other", "step": 3}]])
def test_training_picture(given: list[dict[str, object]], tmp_path: Path) -> None:
    training_picture(given, tmp_path / "training.png")
    with Image.open(tmp_path / "training.png") as opened:
        assert opened.size == (1500, 440)
        assert np.asarray(opened.convert("L")).std() > 3


def test_training_picture_shows_what_changed(tmp_path: Path) -> None:
    training_picture(rows(50), tmp_path / "a.png")
    training_picture(rows(50), tmp_path / "b.png")
    training_picture([row | ({"lr": 0.2} if "lr" in row else {}) for row in rows(50)], tmp_path / "c.png")
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_other_metrics_and_missing_values(tmp_path: Path) -> None:
    odd = [
        {"kind": "train", "step": 1, "loss": None, "lr": float("nan")},
        {"kind": "train", "step": 2, "loss": float("inf"), "lr": True},
        {"kind": "validation", "step": 2, "eer": 0.1, "broken": None},
        {"kind": "validation", "step": 3, "recall@1": 0.2, "map@r": 0.1, "r_precision": 0.1, "accuracy": 0.3},
    ]
    assert len(curve(odd, "train", "loss").step) == len(curve(odd, "train", "lr").step) == 0
    training_picture(odd, tmp_path / "a.png", metric="eer")
    assert Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())).size == (1500, 440)


def test_smoothing_keeps_a_constant_and_starts_at_the_first_value() -> None:
    np.testing.assert_allclose(smooth(np.full(20, 3.0), 7), 3.0)
    assert smooth(np.array([4.0, 0.0]), 5)[0] == 4.0
