"""The picture of an evaluation: queries with what was found for them, as many mistakes as there are in all."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from kinsight import progress
from kinsight.data import BrokenImage
from kinsight.data.reading import read_image
from kinsight.data.thumbnails import thumbnail
from kinsight.errors import KinsightError
from kinsight.evaluation.matching import Alike
from kinsight.evaluation.measure import Measured
from kinsight.evaluation.sides import Side
from kinsight.metrics import RetrievalResult
from kinsight.neighbors import topk
from kinsight.reports.gallery import Neighbour, Picture, Retrieval, retrieval_picture
from kinsight.specs.evaluate import EvaluateSpec

ROWS = 8
NEIGHBOURS = 6
_PIXELS = 148


def draw_retrieval(
    spec: EvaluateSpec, model: str, query: Side, gallery: Side | None, found: Measured, path: Path
) -> None:
    """Write `retrieval.png`: queries drawn by seed, hits and mistakes in their true proportion (one mistake at least,
    if there is any), each with its nearest neighbours. Where no image can be had, there is no picture.
    """
    chosen = choose_queries(found.retrieval, spec.seed)
    if not _any_readable([query.uri(row) for row in chosen.tolist()]):
        progress.say("picture     none: the images behind these vectors cannot be read")
        return
    metrics = found.metrics
    title = f"Recall@1 {100 * metrics['recall@1']:.1f} %" if "recall@1" in metrics else "Retrieval"
    kinds = "classes" if query.labels_NL is None else "labels"
    counts = (
        f"{metrics['queries']:,} queries of {metrics['classes']:,} {kinds}, {metrics['gallery']:,} images to search"
    )
    rows = _retrievals(spec, query, gallery, chosen, found.matching.alike)
    retrieval_picture(rows, path, title=title, note=f"{counts}; {model}")


def choose_queries(retrieval: RetrievalResult, seed: int) -> torch.Tensor:
    """Positions of up to ROWS queries, int64 ascending, hits and mistakes in their true proportion."""
    first_Q = retrieval.ranks.first_Q().cpu()
    matched_Q = (retrieval.ranks.positives_Q > 0).cpu()
    hit = (matched_Q & (first_Q == 1)).nonzero().squeeze(1).numpy()
    miss = (matched_Q & (first_Q != 1)).nonzero().squeeze(1).numpy()
    rows = min(ROWS, len(hit) + len(miss))
    misses = min(len(miss), max(round(rows * len(miss) / max(1, len(hit) + len(miss))), int(len(miss) > 0)))
    misses = max(misses, rows - len(hit))
    rng = np.random.default_rng(seed)
    picked = np.concatenate([rng.choice(hit, rows - misses, replace=False), rng.choice(miss, misses, replace=False)])
    return torch.from_numpy(np.sort(picked).astype(np.int64))


def _retrievals(
    spec: EvaluateSpec, query: Side, gallery: Side | None, chosen: torch.Tensor, alike: Alike | None
) -> list[Retrieval]:
    searched = gallery or query
    similarity_QK, index_QK = topk(
        query.vector_ND[chosen],
        searched.vector_ND,
        min(NEIGHBOURS, len(searched) - (gallery is None)),
        metric=spec.metric,
        exclude=chosen if gallery is None else None,
    )
    rows = []
    for row, similarity_K, index_K in zip(chosen.tolist(), similarity_QK.tolist(), index_QK.tolist(), strict=True):
        name = query.class_name(row)
        neighbours = tuple(
            Neighbour(_pixels(searched.uri(other)), found := searched.class_name(other), value,
                      same=found == name if alike is None else alike(row, other))
            for value, other in zip(similarity_K, index_K, strict=True)
        )  # fmt: skip
        rows.append(Retrieval(Picture(_pixels(query.uri(row)), name), neighbours))
    return rows


def _any_readable(uris: Sequence[str]) -> bool:
    for uri in uris:
        try:
            read_image(uri)
        except BrokenImage:
            continue
        except KinsightError:
            return False  # the storage does not answer: it would not for the others
        return True
    return False


def _pixels(uri: str) -> np.ndarray:
    """An image as people see it, at the size of a tile; grey where it cannot be read any more."""
    try:
        return thumbnail(uri, 2 * _PIXELS)
    except KinsightError:  # whatever is wrong with one picture, the numbers stand
        return np.full((_PIXELS, _PIXELS, 3), 128, np.uint8)
