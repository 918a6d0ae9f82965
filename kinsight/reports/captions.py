"""Lines of text for pictures: any characters, in the fonts at hand, cut to a width."""

import unicodedata
from itertools import groupby

from PIL import ImageDraw

from kinsight.reports.fonts import characters, fallback_fonts, open_font

Color = tuple[int, int, int]


def draw_line(
    canvas: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    *,
    size: int,
    color: Color,
    bold: bool = False,
    center: bool = False,
) -> None:
    """Write one line with its baseline box's top at `place`: left edge, or middle with `center`.

    Each character comes from the first face that has it; what none has is drawn as that face's box, never refused.
    """
    x, y = place
    text = printable(text)
    if center:
        x -= text_width(text, size=size, bold=bold) / 2
    ascent = open_font(_base(bold), size).getmetrics()[0]
    for name, run in _runs(text, bold):
        font = open_font(name, size)
        canvas.text((x, y + ascent), run, font=font, fill=color, anchor="ls")
        x += font.getlength(run)


def text_width(text: str, *, size: int, bold: bool = False) -> float:
    """Pixels that `draw_line` takes from left to right."""
    return sum(open_font(name, size).getlength(run) for name, run in _runs(printable(text), bold))


def shorten(text: str, width: float, *, size: int, bold: bool = False) -> str:
    """The text, or as much of its beginning and end as fits into `width` pixels around an ellipsis.

    Both ends stay because class names often differ in the last one only: "pumps/item_001", "pumps/item_002".
    """
    text = printable(text)
    if text_width(text, size=size, bold=bold) <= width:
        return text
    for kept in range(min(len(text) - 1, 200), 0, -1):
        tail = kept // 2
        cut = text[: kept - tail].rstrip() + "…" + (text[-tail:].lstrip() if tail else "")
        if text_width(cut, size=size, bold=bold) <= width:
            return cut
    return "…"


def fold(text: str, width: float, *, lines: int, size: int) -> list[str]:
    """The text on at most `lines` lines, broken between words; a last or overlong line is shortened. At least one."""
    words = printable(text).split(" ")
    folded = [""]
    for number, word in enumerate(words):
        longer = f"{folded[-1]} {word}".strip()
        if text_width(longer, size=size) <= width or not folded[-1]:
            folded[-1] = longer
        elif len(folded) < lines:
            folded.append(word)
        else:
            folded[-1] = " ".join([folded[-1], *words[number:]])
            break
    return [shorten(line, width, size=size) for line in folded]


def printable(text: str) -> str:
    """One line without control characters; what cannot be encoded becomes the replacement character."""
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    return "".join(_visible(char) for char in text)


def _visible(char: str) -> str:
    match unicodedata.category(char):
        case "Cs":
            return "\ufffd"
        case "Cc" | "Cf":
            return ""
        case _:
            return char


def _base(bold: bool) -> str:
    return "DejaVuSans-Bold" if bold else "DejaVuSans"


def _runs(text: str, bold: bool) -> list[tuple[str, str]]:
    """(face, characters) in order, neighbours of one face joined."""
    faced = ((_face(char, _base(bold)), char) for char in text)
    return [(face, "".join(char for _, char in run)) for face, run in groupby(faced, key=lambda pair: pair[0])]


def _face(char: str, base: str) -> str:
    if char.isascii() or ord(char) in characters(base):
        return base
    return next((name for name in ("STIXGeneral", *fallback_fonts()) if ord(char) in characters(name)), base)
