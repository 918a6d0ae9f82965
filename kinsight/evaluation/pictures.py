"""The picture of an evaluation: queries of easy and hard classes with what was found for them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kinsight.data import BrokenImage
from kinsight.data.reading import read_image
from kinsight.evaluation.model import Model
from kinsight.metrics import RetrievalResult
from kinsight.neighbors import topk
from kinsight.reports.gallery import Neighbour, Picture, Retrieval, retrieval_picture
from kinsight.specs.evaluate import EvaluateSpec

if TYPE_CHECKING:
    from kinsight.evaluation.evaluate import Side

ROWS = 8
NEIGHBOURS = 6
_PIXELS = 148


def draw_retrieval(
    spec: EvaluateSpec,
    model: Model,
    query: "Side",
    gallery: "Side | None",
    retrieval: RetrievalResult,
    metrics: dict[str, Any],
    path: Path,
) -> None:
    """Write `retrieval.png`: queries spread evenly, with as many mistakes among them as there are in all (one at
    least, if there is any), each with its nearest neighbours."""
    chosen = choose_queries(retrieval, spec.seed)
    searched = gallery or query
    count = min(NEIGHBOURS, len(searched.label_N) - (gallery is None))
    if not len(chosen) or count < 1:
        return
    similarity, found = topk(
        query.vector_ND[chosen],
        searched.vector_ND,
        count,
        metric=spec.metric,
        exclude=chosen if gallery is None else None,
    )
    rows = []
    for row, index in enumerate(chosen.tolist()):
        neighbours = tuple(
            Neighbour(
                _pixels(searched.uri_N[other]),
                searched.class_names[int(searched.label_N[other])],
                similarity=float(similarity[row, rank]),
                same=bool(searched.label_N[other] == query.label_N[index]),
            )
            for rank, other in enumerate(found[row].tolist())
        )
        name = query.class_names[int(query.label_N[index])]
        rows.append(Retrieval(Picture(_pixels(query.uri_N[index]), name), neighbours))
    title = f"Recall@1 {100 * metrics['recall@1']:.1f} %" if "recall@1" in metrics else "Retrieval"
    note = (
        f"{metrics['queries']:,} queries of {metrics['classes']:,} classes, {metrics['gallery']:,} images to search; "
    )
    retrieval_picture(rows, path, title=title, note=note + model.name)


def choose_queries(retrieval: RetrievalResult, seed: int) -> torch.Tensor:
    """Positions of up to ROWS queries, int64 ascending, hits and mistakes in their true proportion."""
    first_Q = retrieval.ranks.first_Q().cpu()
    matched = (retrieval.ranks.positives_Q > 0).cpu()
    hit = (matched & (first_Q == 1)).nonzero().squeeze(1).numpy()
    miss = (matched & (first_Q != 1)).nonzero().squeeze(1).numpy()
    rows = min(ROWS, len(hit) + len(miss))
    misses = min(len(miss), max(round(rows * len(miss) / max(1, len(hit) + len(miss))), int(len(miss) > 0)))
    misses = max(misses, rows - len(hit))
    rng = np.random.default_rng(seed)
    picked = np.concatenate([rng.choice(hit, rows - misses, replace=False), rng.choice(miss, misses, replace=False)])
    return torch.from_numpy(np.sort(picked).astype(np.int64))


def _pixels(uri: str) -> np.ndarray:
    """An image as people see it, at the size of a tile; grey where it cannot be read any more."""
    import io

    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(read_image(uri))) as image:
            image.draft("RGB", (2 * _PIXELS, 2 * _PIXELS))
            upright = ImageOps.exif_transpose(image).convert("RGB")
            upright.thumbnail((2 * _PIXELS, 2 * _PIXELS))
            return np.asarray(upright)
    except (BrokenImage, OSError, ValueError):
        return np.full((_PIXELS, _PIXELS, 3), 128, np.uint8)
