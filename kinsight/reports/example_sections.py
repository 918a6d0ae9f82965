"""Pictures that show what the numbers mean: hits, mistakes, hard classes, classes taken for each other."""

from collections import Counter

import numpy as np
import torch
from torch import Tensor

from kinsight.data.reading import shown
from kinsight.reports.evaluated import Evaluated, Items
from kinsight.reports.html import details, escape, gallery, paragraph, picture, section, table
from kinsight.reports.images import Images
from kinsight.reports.mistakes import (
    HardClass,
    Mistakes,
    confused_pairs,
    find_mistakes,
    hardest_classes,
    nearest,
    right_Q,
)
from kinsight.reports.words import display_name, percent, similarity_words

HITS, MISTAKES, NEIGHBOURS = 6, 10, 7
CLASSES, PER_CLASS, PAIRS = 8, 5, 12
_LETTERS = 26  # of a class name under a picture
_SIDE = 160  # pixels of a picture: tiles are 112 wide, and screens are dense


def example_sections(found: Evaluated, images: Images, device: torch.device) -> list[str]:
    """The galleries; where no image can be had, the same as tables of names."""
    mistakes = find_mistakes(found, device)
    return [
        _mistake_section(found, mistakes, images, device),
        _hit_section(found, images, device),
        _class_section(found, mistakes, images),
        _pair_section(found, mistakes, images),
    ]


def _mistake_section(found: Evaluated, mistakes: Mistakes, images: Images, device: torch.device) -> str:
    title = "Mistakes, the most certain first"
    if not mistakes.total:
        always = "shares a label with the query" if found.several else "shows the query's class"
        return section(title, paragraph(f"None: the most similar image always {always}."), anchor="wrong")
    matched = int((right_Q(found) >= 0).sum())
    note = (
        f"{mistakes.total:,} of {matched:,} queries ({percent(mistakes.total / matched)}) find "
        f"{'an image first that shares no label' if found.several else 'another class first'}. These are the ones with "
        f"the highest similarity: look here for wrong labels and for {'what' if found.several else 'classes that'} "
        f"{'looks' if found.several else 'look'} alike." + _drawn(mistakes)
    )
    return section(
        title, _retrievals(found, _one_per_class(found, mistakes), images, device), note=note, anchor="wrong"
    )


def _one_per_class(found: Evaluated, mistakes: Mistakes) -> np.ndarray:
    """Rows of the most certain mistakes, one of a class as long as that fills the page."""
    label_M = found.query.label_N.numpy()[mistakes.row_M]
    _, first = np.unique(label_M, return_index=True)
    later = np.setdiff1d(np.arange(len(label_M)), first)
    return mistakes.row_M[np.concatenate([np.sort(first), later])[:MISTAKES]]


def _drawn(mistakes: Mistakes) -> str:
    return "" if len(mistakes) == mistakes.total else f" {len(mistakes):,} of them were looked at, chosen at random."


def _hit_section(found: Evaluated, images: Images, device: torch.device) -> str:
    title = "Hits"
    hits = np.flatnonzero(right_Q(found) == 1)
    if not len(hits):
        never = "shares a label with the query" if found.several else "shows the query's class"
        return section(title, paragraph(f"None: the most similar image never {never}."), anchor="right")
    chosen = np.random.default_rng(found.seed).choice(hits, min(HITS, len(hits)), replace=False)
    shows = "shares a label with them" if found.several else "shows their class"
    note = f"Chosen at random from the queries whose most similar image {shows}."
    return section(title, _retrievals(found, np.sort(chosen), images, device), note=note, anchor="right")


def _retrievals(found: Evaluated, rows: np.ndarray, images: Images, device: torch.device) -> str:
    similarity_QK, index_QK = nearest(found, rows, NEIGHBOURS, device)
    parts = []
    for row, similarity_K, index_K in zip(rows.tolist(), similarity_QK.tolist(), index_QK.tolist(), strict=True):
        parts.append((row, list(zip(index_K, similarity_K, strict=True))))
    if images.absent:
        return paragraph(f"No pictures: {images.absent}.") + _as_table(found, parts)
    return "".join(_retrieval(found, row, near, images) for row, near in parts)


def _retrieval(found: Evaluated, row: int, near: list[tuple[int, float]], images: Images) -> str:
    query = _tile(found.query, row, images, note="query", kind="asked")
    tiles = [_neighbour(found, row, other, value, images) for other, value in near]
    return f'<div class="retrieval">{query}{gallery(tiles)}</div>'


def _neighbour(found: Evaluated, row: int, other: int, similarity: float, images: Images) -> str:
    same = found.right(row, other)
    note = f"{'✓' if same else '✗'} {similarity_words(similarity)}"
    return _tile(found.searched, other, images, note=note, kind="right" if same else "wrong")


def _tile(items: Items, row: int, images: Images, *, note: str = "", kind: str = "") -> str:
    uri = items.uri(row)
    return picture(
        images.get(uri, _SIDE), caption=_brief(_name(items, row)), note=note, kind=kind, hint=_hint(items, row)
    )


def _name(items: Items, row: int) -> str:
    return items.class_names[int(items.label_N[row])]


def _brief(name: str) -> str:
    """A class name that fits under a picture: names often differ in their ends only."""
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS // 2]}…{name[-(_LETTERS // 2 - 1) :]}"


def _hint(items: Items, row: int) -> str:
    return " · ".join(part for part in (_name(items, row), shown(items.uri(row))) if part)


def _as_table(found: Evaluated, parts: list[tuple[int, list[tuple[int, float]]]]) -> str:
    rows = []
    for row, near in parts:
        other, value = near[0]
        rows.append(
            (_place(found.query, row), _name(found.query, row), _name(found.searched, other),
             _place(found.searched, other), similarity_words(value))
        )  # fmt: skip
    return table(("Query", "Its class", "Most similar: class", "Item", "Similarity"), rows, numbers=(4,))


def _place(items: Items, row: int) -> str:
    return shown(items.uri(row)) or f"row {row:,}"


def _class_section(found: Evaluated, mistakes: Mistakes, images: Images) -> str:
    if found.labels_QL is not None:
        return _label_section(found, found.labels_QL, images)
    title, hard = "Hardest classes", hardest_classes(found, CLASSES)
    if not hard:
        return section(title, paragraph("None: every class is always found first."), anchor="hard")
    names = list(hard[0].values)
    taken = {one.label: _taken_for(found, mistakes, one) for one in hard}
    columns = ("Class", "Queries", *map(display_name, names), "Most often taken for")
    rows = [
        (found.query.class_names[one.label], f"{one.queries:,}", *(percent(one.values[name]) for name in names),
         ", ".join(f"{found.searched.class_names[label]} ({count:,})" for label, count, _ in taken[one.label]))
        for one in hard
    ]  # fmt: skip
    summary = table(columns, rows, numbers=range(1, 2 + len(names)))
    note = "Worst first. per_class.csv has all of them." if found.metrics else ""
    shown_classes = "" if images.absent else "".join(_hard_class(found, one, taken[one.label], images) for one in hard)
    return section(title, summary, shown_classes, note=note, anchor="hard")


def _label_section(found: Evaluated, labels_QL: Tensor, images: Images) -> str:
    """As for classes; what a label is taken for cannot be said where an image has several."""
    title, hard = "Hardest labels", hardest_classes(found, CLASSES)
    if not hard:
        return section(title, paragraph("None: images always find one first that shares a label."), anchor="hard")
    names = list(hard[0].values)
    rows = [(found.label_names[one.label], f"{one.queries:,}", *(percent(one.values[name]) for name in names))
            for one in hard]  # fmt: skip
    summary = table(("Label", "Queries", *map(display_name, names)), rows, numbers=range(1, 2 + len(names)))
    parts = []
    for one in hard if not images.absent else ():
        own = np.flatnonzero((labels_QL == one.label).any(1).numpy())
        chosen = np.sort(np.random.default_rng(found.seed).choice(own, min(PER_CLASS, len(own)), replace=False))
        tiles = gallery([_tile(found.query, row, images, kind="asked") for row in chosen.tolist()])
        parts.append(f"<h3>{escape(found.label_names[one.label])}</h3>{tiles}")
    note = "Worst first, over the queries that have the label. per_class.csv has all of them."
    return section(title, summary, *parts, note=note, anchor="hard")


def _taken_for(found: Evaluated, mistakes: Mistakes, hard: HardClass) -> list[tuple[int, int, int]]:
    """(class, times, an item found) of the two classes it is most often taken for."""
    mine = np.flatnonzero(found.query.label_N.numpy()[mistakes.row_M] == hard.label)
    items = mistakes.found_M[mine].tolist()
    labels = found.searched.label_N.numpy()[items].tolist()
    example = dict(zip(reversed(labels), reversed(items), strict=True))
    return [(label, count, example[label]) for label, count in Counter(labels).most_common(2)]


def _hard_class(found: Evaluated, hard: HardClass, taken: list[tuple[int, int, int]], images: Images) -> str:
    own = np.flatnonzero(found.query.label_N.numpy() == hard.label)
    chosen = np.sort(np.random.default_rng(found.seed).choice(own, min(PER_CLASS, len(own)), replace=False))
    tiles = [_tile(found.query, row, images, kind="asked") for row in chosen.tolist()]
    tiles += [_tile(found.searched, item, images, note=f"✗ {count:,} times", kind="wrong") for _, count, item in taken]
    name = found.query.class_names[hard.label]
    score = ", ".join(f"{display_name(key)} {percent(value)}" for key, value in hard.values.items())
    if taken:
        score += "; what it is most often taken for stands last"
    return f'<h3>{escape(name)}</h3><p class="note">{escape(score)}</p>{gallery(tiles)}'


def _pair_section(found: Evaluated, mistakes: Mistakes, images: Images) -> str:
    title = "Classes most often confused"
    if why := found.reasons.get("confused classes"):
        return section(title, paragraph(f"Not measurable: {why}."), anchor="confused")
    pairs = confused_pairs(found, mistakes, PAIRS)
    if not pairs:
        return section(title, paragraph("None."), anchor="confused")
    names = found.searched.class_names
    asked = found.query.class_names
    rows = [(asked[pair.first], names[pair.second], f"{pair.there:,}", f"{pair.back:,}") for pair in pairs]
    columns = ("Class", "taken for", "times", "the other way round")
    listed = table(columns, rows, numbers=(2, 3))
    note = "Counted over the queries whose most similar image is of the other class." + _drawn(mistakes)
    if images.absent:
        return section(title, listed, note=note, anchor="confused")
    shown_pairs = []
    for pair in pairs:
        row, other = int(mistakes.row_M[pair.example]), int(mistakes.found_M[pair.example])
        value = float(mistakes.similarity_M[pair.example])
        both = _tile(found.query, row, images, note=f"{pair.there + pair.back:,} mistakes", kind="asked")
        both += _tile(found.searched, other, images, note=f"✗ {similarity_words(value)}", kind="wrong")
        shown_pairs.append(f'<div class="pair">{both}</div>')
    return section(title, f'<div class="pairs">{"".join(shown_pairs)}</div>', details("As a table", listed), note=note,
                   anchor="confused")  # fmt: skip
