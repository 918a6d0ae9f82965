"""Images with what they show and what was said of them, the worst mistakes first."""

import numpy as np
from torch import Tensor

from kinsight.data.reading import shown
from kinsight.reports.classified import Classified
from kinsight.reports.html import details, gallery, paragraph, picture, section, table
from kinsight.reports.images import Images
from kinsight.reports.words import percent

_SIDE = 160  # pixels of a picture: tiles are 112 wide, and screens are dense
_LABELS = 4  # named under a picture
_LETTERS = 60


def mistake_section(found: Classified, images: Images) -> str:
    """Pictures of the mistakes that the model was surest of."""
    title = "Mistakes, the worst first"
    wrong = np.flatnonzero(~found.right_N.numpy())
    if not len(wrong):
        return section(title, paragraph("None: what is said of the images is always right."), anchor="wrong")
    order = wrong[np.argsort(-found.surprise_N.numpy()[wrong], kind="stable")][: found.num_pictures]
    what = "another class is said" if found.one is not None else "a label is missing or wrong"
    note = (
        f"Of {len(wrong):,} of {len(found):,} images ({percent(len(wrong) / len(found))}) {what}. These are the ones "
        "whose truth the model takes for least likely: look here for wrong labels, too."
    )
    return section(title, _pictures(found, order, images), note=note, anchor="wrong")


def right_section(found: Classified, images: Images) -> str:
    """Pictures of images that are right, drawn by seed, as many as the mistakes leave of those wanted; "" for none."""
    right = np.flatnonzero((found.right_N & found.seen_N).numpy())
    number = min(len(right), found.num_pictures - int((~found.right_N).sum()))
    if number <= 0:
        return ""
    chosen = np.random.default_rng(found.seed).choice(right, number, replace=False)
    return section("Right ones", _pictures(found, np.sort(chosen), images), note="Chosen at random.", anchor="right")


def _pictures(found: Classified, rows: np.ndarray, images: Images) -> str:
    if images.absent:
        listed = [(shown(found.uri(row)), _truth(found, row), _said(found, row)) for row in rows.tolist()]
        return paragraph(f"No pictures: {images.absent}.") + table(("Image", "Shows", "Said"), listed)
    drawn = images.many([found.uri(row) for row in rows.tolist()], _SIDE)
    tiles = [
        picture(
            image,
            caption=_truth(found, row),
            note=_said(found, row),
            kind="right" if bool(found.right_N[row]) else "wrong",
            hint=f"{shown(found.uri(row))}\nshows: {_truth(found, row)}\nsaid: {_said(found, row, every=True)}",
        )
        for row, image in zip(rows.tolist(), drawn, strict=True)
    ]
    names = [(shown(found.uri(row)), _truth(found, row), _said(found, row, every=True)) for row in rows.tolist()]
    listed = details("As a table", table(("Image", "Shows", "Said"), names))
    return f'<div class="classed">{gallery(tiles)}</div>{listed}'


def _truth(found: Classified, row: int) -> str:
    """The labels an image is known to show. Where nobody knows of some, none known is not the same as none."""
    known_C = found.target[row] >= 0
    none = "no label" if bool(known_C.all()) else "no label known" if bool(known_C.any()) else "nothing known"
    return _joined([found.class_names[label] for label in found.shows(row)]) or none


def _said(found: Classified, row: int, *, every: bool = False) -> str:
    """The predicted labels with their probability, and that of those missed; of one class an image, of the true one."""
    labels, shown_labels, probability_C = found.said(row), found.shows(row), found.probability(row)
    labels.sort(key=lambda label: -float(probability_C[label]))
    missed = [label for label in shown_labels if label not in labels]
    texts, absent = (_with_probability(found, some, probability_C) for some in (labels, missed))
    if found.one is not None:
        truth = f" (true one {float(probability_C[missed[0]]):.2f})" if missed else ""
        return f"said {texts[0]}{truth}"
    said = (", ".join(texts) if every else _joined(texts)) or "nothing"
    return f"said {said}" + (f"; missed {', '.join(absent) if every else _joined(absent)}" if absent else "")


def _with_probability(found: Classified, labels: list[int], probability_C: Tensor) -> list[str]:
    return [f"{_short(found.class_names[label])} {float(probability_C[label]):.2f}" for label in labels]


def _joined(names: list[str]) -> str:
    more = f" and {len(names) - _LABELS} more" if len(names) > _LABELS else ""
    return ", ".join(_short(name) for name in names[:_LABELS]) + more


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
