"""The embedding map: every item a point, its picture and class on hover, classes to search for."""

import base64
import gzip
import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinsight.data.reading import shown
from kinsight.reports.captions import printable
from kinsight.reports.evaluated import Evaluated, Items
from kinsight.reports.html import data_island, escape, paragraph, section
from kinsight.reports.images import Images
from kinsight.reports.layout import neighbour_map, principal_map
from kinsight.reports.mistakes import right_Q
from kinsight.reports.sprites import PER_SHEET, Sprites, sprites
from kinsight.specs.report import ReportSpec

_STEPS = 65_535  # positions are sent as 16-bit numbers
_UNKNOWN, _MISS, _HIT, _GALLERY = 0, 1, 2, 3


@dataclass(frozen=True)
class _Chosen:
    """The items on the map. row_N: rows of the queries, or, where from_gallery_N, of the gallery."""

    vector_ND: Tensor
    label_N: np.ndarray
    row_N: np.ndarray
    from_gallery_N: np.ndarray
    total: int


def map_section(found: Evaluated, settings: ReportSpec, images: Images, device: torch.device) -> str:
    """The map with its controls and data, or nothing if `settings` want none."""
    if settings.map == "none":
        return ""
    chosen = _choose(found, settings.map_items)
    if settings.map == "tsne":
        place_N2 = neighbour_map(chosen.vector_ND, found.metric, seed=found.seed, device=device)
    else:
        place_N2 = principal_map(chosen.vector_ND, found.metric)
    uris: list[str] = [_side(found, gallery).uri(row) for row, gallery in zip(*_rows(chosen), strict=True)]
    budget = round(1e6 * settings.map_pictures_mb)
    drawn = sprites(images, uris, budget=budget, seed=found.seed)
    return section(
        "Map of the embeddings",
        _controls(),
        _data(found, chosen, place_N2, [shown(uri) for uri in uris], drawn),
        paragraph(_pictures(drawn, len(uris), images, settings)),
        note=_note(settings, chosen),
        anchor="map",
    )


def _choose(found: Evaluated, most: int) -> _Chosen:
    own, total = len(found.query), len(found.query) + (len(found.gallery) if found.gallery is not None else 0)
    place_N = np.arange(total)
    if total > most:
        place_N = np.sort(np.random.default_rng(found.seed).choice(total, most, replace=False))
    row_N, gallery_N = np.where(place_N < own, place_N, place_N - own), place_N >= own
    parts = [(found.query, row_N[~gallery_N]), (found.searched, row_N[gallery_N])]
    vector_ND = torch.cat([items.vector_ND[torch.from_numpy(rows)] for items, rows in parts])
    label_N = torch.cat([items.label_N[torch.from_numpy(rows)] for items, rows in parts])
    return _Chosen(vector_ND, label_N.numpy(), row_N, gallery_N, total)


def _rows(chosen: _Chosen) -> tuple[list[int], list[bool]]:
    return chosen.row_N.tolist(), chosen.from_gallery_N.tolist()


def _side(found: Evaluated, gallery: bool) -> Items:
    return found.searched if gallery else found.query


def _note(settings: ReportSpec, chosen: _Chosen) -> str:
    number = len(chosen.row_N)
    items = (
        f"All {number:,} items" if number == chosen.total else f"{number:,} of {chosen.total:,} items, chosen at random"
    )
    if settings.map == "pca":
        return f"{items}, seen from the side from which they differ most (two principal components)."
    return (
        f"{items}: those the model finds alike stand close together (t-SNE on exact neighbours). Far distances and "
        "the sizes of groups mean little."
    )


def _pictures(drawn: Sprites, number: int, images: Images, settings: ReportSpec) -> str:
    if drawn.count == number:
        return f"Every item has a picture, {drawn.side} pixels at most."
    if images.absent:
        return f"No pictures: {images.absent}."
    if settings.map_pictures_mb == 0:
        return "No pictures: report.map_pictures_mb is 0."
    return (
        f"{drawn.count:,} of {number:,} items have a picture, {drawn.side} pixels at most; the others could not be "
        f"read or did not fit into report.map_pictures_mb={settings.map_pictures_mb:g}."
    )


def _controls() -> str:
    return (
        '<div class="mapbar noprint"><input id="map-search" type="search" placeholder="find classes by name" '
        'aria-label="find classes by name" autocomplete="off">'
        '<select id="map-colour" aria-label="colours"><option value="class">colours: classes</option>'
        '<option value="right">colours: right or wrong</option></select>'
        '<span><button id="map-in" title="closer">+</button><button id="map-out" title="farther">−</button>'
        '<button id="map-all" title="everything">⤢</button></span><span id="map-count" class="note"></span></div>'
        '<div class="map" id="map-frame"><canvas id="map-canvas" tabindex="0" role="img" '
        'aria-label="map of the embeddings"></canvas><div id="map-card"></div></div>'
        '<div id="map-legend" class="legend"></div>'
    )


def _data(found: Evaluated, chosen: _Chosen, place_N2: np.ndarray, names: list[str], drawn: Sprites) -> str:
    used, label_N = np.unique(chosen.label_N, return_inverse=True)
    class_names = found.searched.class_names
    shared = _shared_folder(names)
    about = {
        "count": len(names),
        "classes": [printable(str(class_names[label])) for label in used.tolist()],
        "side": drawn.side,
        "perSheet": PER_SHEET,
        "gallery": found.gallery is not None,
    }
    files = json.dumps([printable(name[shared:]) for name in names], ensure_ascii=False)
    parts = [
        data_island("map-about", about),
        _bytes("map-places", _quantised(place_N2)),
        _bytes("map-labels", label_N.astype("<u4")),
        _bytes("map-flags", _flags(found, chosen)),
        _bytes("map-pictures", drawn.place_N.astype("<i4")),
        _text("map-files", base64.b64encode(gzip.compress(files.encode(), 6, mtime=0)).decode("ascii")),
        *(_text(f"map-sheet-{number}", address) for number, address in enumerate(drawn.addresses())),
    ]
    return "".join(parts)


def _shared_folder(names: list[str]) -> int:
    """How many characters all names share, up to the end of a folder."""
    low, high = min(names), max(names)
    same = next((at for at, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1]), 0)
    return low[:same].rfind("/") + 1


def _quantised(place_N2: np.ndarray) -> np.ndarray:
    """Positions as uint16, x and y in turn, proportions kept."""
    low_2, high_2 = place_N2.min(0), place_N2.max(0)
    span = float((high_2 - low_2).max()) or 1.0
    centred_N2 = (place_N2 - (low_2 + high_2) / 2) / span + 0.5
    return np.round(centred_N2 * _STEPS).clip(0, _STEPS).astype("<u2")


def _flags(found: Evaluated, chosen: _Chosen) -> np.ndarray:
    """uint8: whether an item, as a query, finds its class; or that it is of the gallery."""
    right = right_Q(found)[np.where(chosen.from_gallery_N, 0, chosen.row_N)]
    flag_N = np.choose(right + 1, [_UNKNOWN, _MISS, _HIT])
    return np.where(chosen.from_gallery_N, _GALLERY, flag_N).astype("u1")


def _bytes(name: str, values: np.ndarray) -> str:
    return _text(name, base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii"))


def _text(name: str, text: str) -> str:
    """ASCII without markup, which the page does not parse before it is asked for."""
    return f'<script type="text/plain" id="{escape(name)}">{text}</script>'
