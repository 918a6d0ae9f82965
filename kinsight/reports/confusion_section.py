"""Which classes are taken for which: as a picture, and as a list."""

import torch
from torch import Tensor

from kinsight.metrics import ClassificationResult
from kinsight.reports.classified import Classified
from kinsight.reports.html import details, escape, paragraph, section, table
from kinsight.reports.words import percent

MOST_CLASSES = 30  # of a picture; of more, those with the most mistakes
_PAIRS = 20
_NAMED = 18  # letters of a class beside the picture
_COUNTED = 20  # classes up to which cells say how many images they hold
_WIDE, _LEAST, _MOST = 640, 22, 72  # of all cells together, and of one
_SIDE, _TOP = 172, 34


def confusion_section(found: Classified) -> str:
    """Rows are what images show, columns what is said; a cell's shade is its share of the row."""
    assert found.one is not None, "several labels are not confused with each other"
    title, result = "Which classes are taken for which", found.one
    pairs = result.confusions(_PAIRS)
    if not pairs:
        return section(title, paragraph("None: every class is told from every other."), anchor="confused")
    chosen = _shown(result)
    part = len(chosen) < len(found.class_names)
    note = "A row is what images show, a column what is said of them; the darker, the larger the share of the row." + (
        f" Shown are the {len(chosen)} classes with the most mistakes." if part else ""
    )
    rows = [
        (found.class_names[pair.true], found.class_names[pair.predicted], f"{pair.images:,}",
         percent(pair.images / int(result.support_C[pair.true])))
        for pair in pairs
    ]  # fmt: skip
    listed = table(("Shows", "Is taken for", "Images", "Of the class"), rows, numbers=(2, 3))
    drawn = _picture(found, _counts(result, chosen), chosen)
    return section(
        title, drawn, details(f"The {len(rows)} most frequent mistakes", listed), note=note, anchor="confused"
    )


def _shown(result: ClassificationResult) -> list[int]:
    """Classes in a picture, ascending: those with the most mistakes, as what is shown or as what is said."""
    wrong_N = result.rank_N > 1
    classes = len(result.support_C)
    mistakes_C = torch.bincount(result.label_N[wrong_N], minlength=classes)
    mistakes_C += torch.bincount(result.predicted_N[wrong_N], minlength=classes)
    if classes <= MOST_CLASSES:
        return list(range(classes))
    return sorted(mistakes_C.argsort(descending=True, stable=True)[:MOST_CLASSES].tolist())


def _counts(result: ClassificationResult, chosen: list[int]) -> Tensor:
    """int64: images by true and said class among the chosen ones."""
    place_C = torch.full((len(result.support_C),), -1)
    place_C[chosen] = torch.arange(len(chosen))
    true_N, said_N = place_C[result.label_N], place_C[result.predicted_N]
    kept_N = (true_N >= 0) & (said_N >= 0)
    number = len(chosen)
    return torch.bincount(true_N[kept_N] * number + said_N[kept_N], minlength=number**2).view(number, number)


def _picture(found: Classified, count_KK: Tensor, chosen: list[int]) -> str:
    assert found.one is not None
    names = [found.class_names[label] for label in chosen]
    number = len(names)
    cell = max(_LEAST, min(_MOST, _WIDE // number))
    edge = cell * number
    parts = [_titles(edge)]
    for row, (label, counts) in enumerate(zip(chosen, count_KK.tolist(), strict=True)):
        y, total = _TOP + row * cell, int(found.one.support_C[label])
        middle = y + cell / 2 + 4
        parts.append(f'<text x="{_SIDE - 6}" y="{middle:.1f}" text-anchor="end">{escape(_short(names[row]))}</text>')
        for column, count in enumerate(counts):
            if not count:
                continue
            share, x = count / total, _SIDE + column * cell
            told = f"{names[row]} → {names[column]}: {count:,} of {total:,} images ({percent(share)})"
            kind = "hit" if row == column else "miss"
            number_there = _count(x + cell / 2, middle, count) if number <= _COUNTED else ""
            parts.append(
                f'<rect class="{kind}" x="{x + 1}" y="{y + 1}" width="{cell - 2}" height="{cell - 2}" '
                f'fill-opacity="{max(0.08, share):.3f}"><title>{escape(told)}</title></rect>{number_there}'
            )
    for column, name in enumerate(names):
        x, y = _SIDE + (column + 0.5) * cell + 4, _TOP + edge + 10
        turned = f'text-anchor="end" transform="rotate(-60 {x:.1f} {y})"'
        parts.append(f'<text x="{x:.1f}" y="{y}" {turned}>{escape(_short(name))}</text>')
    frame = f'<rect class="frame" x="{_SIDE}" y="{_TOP}" width="{edge}" height="{edge}"/>'
    width, height = _SIDE + edge + 14, _TOP + edge + 140
    return (
        f'<figure class="confusion"><svg viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="which classes are taken for which">{frame}{"".join(parts)}</svg></figure>'
    )


def _titles(edge: int) -> str:
    middle, left = _TOP + edge / 2, 14
    return (
        f'<text class="axis" x="{_SIDE + edge / 2:.1f}" y="{_TOP - 12}" text-anchor="middle">is taken for</text>'
        f'<text class="axis" x="{left}" y="{middle:.1f}" text-anchor="middle" '
        f'transform="rotate(-90 {left} {middle:.1f})">shows</text>'
    )


def _count(x: float, y: float, count: int) -> str:
    return f'<text class="count" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{count:,}</text>'


def _short(name: str) -> str:
    return name if len(name) <= _NAMED else f"{name[: _NAMED - 1]}…"
