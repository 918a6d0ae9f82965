"""How many of a few dozen symbols, drawn otherwise than anything the demo has learned from, are recognised?

By default as a hand draws ordinary ones on the search page's pad (`strokes`); with fonts, any of the demo's symbols in
those (`other_fonts`). They are searched for in the demo's index on the path that the server takes, and judged by what
the page can list: single pictures, classes, and classes with ordinary ones preferred as the demo does.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from kinsight.bench.other_fonts import choose, typed
from kinsight.bench.strokes import STROKES, by_hand, pad_picture, strokes_of
from kinsight.data.thumbnails import thumbnail
from kinsight.demo.job import PREFERENCE
from kinsight.reports.gallery import Neighbour, Picture, Retrieval, retrieval_picture
from kinsight.serving.engine import By, Clock, Engine
from kinsight.specs.bench import BenchSymbols
from kinsight.specs.serve import ServeSpec

_AS_THE_DEMO = "classes, ordinary preferred"
_WAYS: dict[str, tuple[By, dict[str, Any]]] = {
    "pictures": ("items", {}),
    "classes": ("classes", {}),
    _AS_THE_DEMO: ("classes", PREFERENCE),
}
_SIDE = 148  # pixels of a picture that is shown


@dataclass(frozen=True)
class _Query:
    """right: characters any of which is a right answer."""

    image: Image.Image
    right: frozenset[str]
    name: str


def run(spec: BenchSymbols) -> dict[str, Any]:
    """Draw, search, print the shares; returns them and every query's rank, by what is listed. Raises DataError for
    unsuitable fonts.
    """
    place = Path(spec.demo)
    rng = np.random.default_rng(spec.seed)
    queries = _typed(spec, rng, place) if spec.fonts else _drawn(spec.times, rng)
    files = [_png(query.image) for query in queries]
    table, result, found = Table("listed", "first", f"among the first {spec.k}"), {}, []
    for way, (by, preference) in _WAYS.items():
        settings = ServeSpec(bundle=str(place / "run"), index=str(place / "index"), k=spec.k, **preference)
        with Engine(settings) as engine:
            found = [engine.search(engine.embed(file, Clock()), spec.k, Clock(), by=by)["results"] for file in files]
        ranks = [_rank(query, items) for query, items in zip(queries, found, strict=True)]
        first, among = (sum(rank is not None and rank <= k for rank in ranks) for k in (1, spec.k))
        table.add_row(way, *(f"{count} of {len(queries)}  {count / len(queries):.1%}" for count in (first, among)))
        result[way] = {"first": first, "among": among, "ranks": ranks}
    console = Console(highlight=False)
    ranks = result[_AS_THE_DEMO]["ranks"]
    _print_missed(console, queries, ranks)
    console.print(table)
    if spec.picture is not None:
        order = sorted(range(len(queries)), key=lambda n: (ranks[n] is not None, n))[:10]
        among = f"{result[_AS_THE_DEMO]['among']} of {len(queries)} symbols are among the first {spec.k} found"
        note = "drawn as no training picture was; those not found come first"
        rows = [_row(queries[n], found[n]) for n in order]
        retrieval_picture(rows, Path(spec.picture), title=among, note=note)
    return {"symbols": len(queries), "names": [query.name for query in queries], "listed": result}


def _drawn(times: int, rng: np.random.Generator) -> list[_Query]:
    """Every symbol of STROKES, some times each."""
    return [
        _Query(pad_picture(by_hand(strokes_of(text), rng)), frozenset(characters), " ".join(characters))
        for characters, text in STROKES.items()
        for _ in range(times)
    ]


def _typed(spec: BenchSymbols, rng: np.random.Generator, place: Path) -> list[_Query]:
    return [
        _Query(
            typed(symbol, font, rng),
            frozenset(map(chr, (symbol.code, *symbol.alike))),
            f"{symbol.label} {symbol.title} ({Path(font).name})",
        )
        for symbol, font in choose(spec, rng, place)
    ]


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _rank(query: _Query, found: list[dict[str, Any]]) -> int | None:
    """The first right answer's rank."""
    for item in found:
        if not query.right.isdisjoint((item["character"], *(item["also"] or "").split(" "))):
            return item["rank"]
    return None


def _print_missed(console: Console, queries: list[_Query], ranks: list[int | None]) -> None:
    missed: dict[str, int] = {}
    for query, rank in zip(queries, ranks, strict=True):
        if rank is None:
            missed[query.name] = missed.get(query.name, 0) + 1
    for name, count in missed.items():
        console.print(f"missed  {name}{f'  {count} times' if count > 1 else ''}", markup=False)


def _row(query: _Query, found: list[dict[str, Any]]) -> Retrieval:
    neighbours = tuple(
        Neighbour(
            thumbnail(item["uri"], _SIDE),
            f"{item['character']}  {item['label']}",
            item["similarity"],
            same=_rank(query, [item]) is not None,
        )
        for item in found
    )
    return Retrieval(Picture(np.asarray(query.image.resize((_SIDE, _SIDE))), query.name), neighbours)
