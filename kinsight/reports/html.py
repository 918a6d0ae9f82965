"""Self-contained pages: one file, no network, light and dark, printable. Every text that goes in is escaped here."""

import base64
import html
import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from kinsight.data.thumbnails import encoded
from kinsight.reports.captions import printable

# Nothing on a page may reach a server, whatever a file or class is called.
_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_LONG_WORD = 24
_PIECE = re.compile(r"[^/\\_.:&=-]{1,24}[/\\_.:&=-]?|[/\\_.:&=-]{1,24}")


def document(title: str, parts: Iterable[str], *, note: str = "", scripts: Sequence[str] = ()) -> str:
    """A whole page. parts: HTML made by this module's functions. scripts: JavaScript, run after the page is shown."""
    code = "".join(f"<script>\n{script}\n</script>" for script in scripts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{asset('page.css')}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1>{f'<p class=note>{escape(note)}</p>' if note else ''}</header>"
        f"{''.join(parts)}</main>{code}</body></html>\n"
    )


def section(title: str, *parts: str, note: str = "", anchor: str = "") -> str:
    """A titled part of a page. note: a sentence under the title, plain text."""
    name = f' id="{escape(anchor)}"' if anchor else ""
    return (
        f"<section{name}><h2>{escape(title)}</h2>{f'<p class=note>{escape(note)}</p>' if note else ''}"
        f"{''.join(parts)}</section>"
    )


def paragraph(text: object) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = ()) -> str:
    """Rows of plain text. numbers: positions of the columns that are aligned to the right."""
    head = "".join(f"<th{_right(place in numbers)}>{escape(name)}" for place, name in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(f"<td{_right(place in numbers)}>{breakable(cell)}" for place, cell in enumerate(row))
        for row in rows
    )
    return f"<div class=scroll><table><thead><tr>{head}<tbody>{body}</table></div>"


def picture(image: np.ndarray | None, *, caption: str = "", note: str = "", kind: str = "", hint: str = "") -> str:
    """An image (uint8, HxW or HxWx3; None: one that cannot be read) with its caption.

    kind: right, wrong, or plain. hint: shown on hover, where it is not the caption.
    """
    shown = f'<img decoding="async" alt="" src="{data_uri(image)}">' if image is not None else "<i>not readable</i>"
    text = f"<b>{escape(caption)}</b>" if caption else ""
    more = f"<small>{escape(note)}</small>" if note else ""
    body = f"<span>{shown}</span>{text}{more}"
    return f'<figure class="tile {escape(kind)}" title="{escape(hint or caption)}">{body}</figure>'


def gallery(pictures: Iterable[str]) -> str:
    """`picture`s side by side, wrapping."""
    return f"<div class=gallery>{''.join(pictures)}</div>"


def group(pictures: Iterable[str]) -> str:
    """`picture`s that belong together, such as an image and its copy; groups go into a `gallery`."""
    return f"<div class=group>{''.join(pictures)}</div>"


def bars(rows: Sequence[tuple[str, int]]) -> str:
    """A histogram: (name, count), the largest count as wide as the page allows."""
    most = max((count for _, count in rows), default=0) or 1
    lines = "".join(
        f"<tr><th class=number>{escape(name)}<td class=bar><i style='width:{100 * count / most:.1f}%'></i>"
        f"<td class=number>{count:,}"
        for name, count in rows
    )
    return f"<div class=scroll><table class=bars>{lines}</table></div>"


def numbers(cards: Iterable[tuple[str, str, str]]) -> str:
    """Headline numbers: (name, value, a line below it)."""
    shown = "".join(
        f"<div class=card><small>{escape(name)}</small><strong>{escape(value)}</strong>"
        f"<small>{escape(more)}</small></div>"
        for name, value, more in cards
    )
    return f"<div class=cards>{shown}</div>"


def details(summary: str, *parts: str) -> str:
    """Something to open by a click."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def preformatted(text: object) -> str:
    """Plain text as it stands, such as YAML."""
    lines = (printable_line(line) for line in str(text).splitlines())
    return f"<pre>{html.escape(chr(10).join(lines))}</pre>"


def data_island(name: str, value: Any) -> str:
    """Plain data for a page's script: `JSON.parse(document.getElementById(name).textContent)`."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f'<script type="application/json" id="{escape(name)}">{text.replace("<", chr(92) + "u003c")}</script>'


def data_uri(image: np.ndarray) -> str:
    """A small image as the address that holds it."""
    data, kind = encoded(image)
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def escape(text: object) -> str:
    """Plain text for HTML, attributes included; control and direction characters are taken out."""
    return html.escape(printable(str(text)), quote=True)


def breakable(text: object) -> str:
    """Plain text for HTML; long words, such as addresses, may break after a separator, or where there is none."""
    pieces = (_PIECE.findall(word) if len(word) > _LONG_WORD else [word] for word in printable(str(text)).split(" "))
    return " ".join("<wbr>".join(html.escape(piece, quote=True) for piece in word) for word in pieces)


def printable_line(text: str) -> str:
    """A line as it stands, its leading spaces too, without control and direction characters."""
    indent = len(text) - len(text.lstrip(" "))
    return " " * indent + printable(text)


@cache
def asset(name: str) -> str:
    """A file of this package: style or script."""
    return resources.files("kinsight.reports").joinpath("assets", name).read_text(encoding="utf-8")


def _right(wanted: bool) -> str:
    return " class=number" if wanted else ""
