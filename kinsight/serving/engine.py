"""What a server answers with: a model, an index, and the similarity from which on an item counts as a match."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from kinsight import progress
from kinsight.errors import DataError, SpecError
from kinsight.evaluation import load
from kinsight.indexing import Index
from kinsight.models import load_header
from kinsight.serving.embedder import Embedder
from kinsight.specs.serve import ServeSpec


@dataclass(frozen=True)
class Limit:
    """Similarity from which on an item is accepted, and what is known of it. threshold: None accepts nothing and
    refuses nothing. fmr: the false-match rate it was measured for.
    """

    threshold: float | None
    fmr: float | None = None
    source: str = ""


@dataclass
class Clock:
    """Milliseconds spent, by step."""

    took_ms: dict[str, float] = field(default_factory=dict)

    def measure(self, step: str, function: Callable[[], Any]) -> Any:
        """What `function` returns; its time is kept."""
        started = time.perf_counter()
        try:
            return function()
        finally:
            self.took_ms[step] = round(1000 * (time.perf_counter() - started), 2)


class NoSuchItem(DataError):
    """The index has no such item."""


class Engine:
    """A loaded model with its index; `embed` and `search` may be called from many threads."""

    def __init__(self, spec: ServeSpec) -> None:
        """Load everything and run once. Raises SpecError, StorageError, DataError."""
        self.spec = spec
        self.model = load(spec.bundle, device=spec.device, precision=spec.precision)
        self.index = Index.open(spec.index) if spec.index is not None else None
        if self.index is not None:
            check_same_model(self.index, self.model.content_hash, self.model.name)
        self.limit = find_limit(spec.bundle, spec.fmr, spec.threshold, self.index.metric if self.index else "cosine")
        size = self.model.image.image_size
        channels = 3 if self.model.image.color == "rgb" else 1
        self.model.vectors(torch.zeros(1, channels, size, size, dtype=torch.uint8))  # the first pass is slow: now
        # As the index's own vectors: where length counts, both sides need the same.
        unit = self.index is None or self.index.header.normalized is not False
        self.embedder = Embedder(self.model, max_batch=spec.max_batch, max_waiting=spec.max_waiting, normalize=unit)

    def embed(self, data: bytes, clock: Clock) -> np.ndarray:
        """The vector of an encoded image, as the index holds them. Raises BrokenImage, Overloaded."""
        pixels_CHW = clock.measure("decode", lambda: self.model.pixels(data))
        return clock.measure("embed", lambda: self.embedder.vector(pixels_CHW))

    def search(self, vector_D: np.ndarray, k: int, clock: Clock, *, own_row: int | None = None) -> dict[str, Any]:
        """The nearest items, and whether the nearest is near enough. own_row: an item that is not to find itself."""
        index = self._need_index()
        if not 1 <= k <= self.spec.max_k:
            raise SpecError("serve.k", f"expected 1 to {self.spec.max_k}", field=f"k={k}")
        query_1D = torch.from_numpy(np.ascontiguousarray(vector_D[None], np.float32))
        exclude = torch.tensor([own_row]) if own_row is not None else None
        hits = clock.measure("search", lambda: index.search(query_1D, k, exclude_Q=exclude))
        rows = [row for row in hits.row_QK[0].tolist() if row >= 0]
        similarities = hits.similarity_QK[0, : len(rows)].tolist()
        results = [
            {"rank": rank, "row": row, **item, "similarity": similarity, "accepted": self.accepts(similarity)}
            for rank, (row, similarity, item) in enumerate(
                zip(rows, similarities, index.items(rows).to_pylist(), strict=True), 1
            )
        ]
        best = results[0] if results else None
        return {"accepted": best["accepted"] if best else None, "label": best["label"] if best else None} | {
            "results": results
        }

    def accepts(self, similarity: float) -> bool | None:
        """Whether a similarity is a match; None where no threshold is known."""
        return None if self.limit.threshold is None else similarity >= self.limit.threshold

    def vector_of_row(self, row: int) -> np.ndarray:
        """The stored vector of an item, float32 (D,). Raises NoSuchItem."""
        return self._need_index().vectors([self._known(row)])[0].numpy()

    def row_of_id(self, id_: str | int) -> int:
        """The row of the item with a user's id. Raises NoSuchItem."""
        try:
            return int(self._need_index().rows_of([id_])[0])
        except DataError as error:
            raise NoSuchItem(error.code, error.message, field=error.field, remedy=error.remedy) from None

    def uri_of_row(self, row: int) -> str:
        """Where an item's image is. Raises NoSuchItem."""
        return self._need_index().items([self._known(row)])["uri"][0].as_py()

    def _known(self, row: int) -> int:
        index = self._need_index()
        if not 0 <= row < index.num_rows:
            raise NoSuchItem("serve.no-item", f"expected 0 to {index.num_rows - 1}", field=f"row={row}")
        return row

    def _need_index(self) -> Index:
        if self.index is None:
            raise SpecError("serve.no-index", "this server has no index", remedy="start it with --index")
        return self.index

    def close(self) -> None:
        """Answer what waits, then stop."""
        self.embedder.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def check_same_model(index: Index, content_hash: str | None, name: str) -> None:
    """Raise DataError unless the index was made with this model."""
    if index.model_hash is not None and index.model_hash != content_hash:
        raise DataError(
            "index.other-model",
            f"was made by {index.model}, another model than {name}: their vectors cannot be compared",
            field="index",
            remedy="give the bundle the index was made with, or embed the images with this one and build an index",
        )
    if index.model_hash is None:
        progress.warn(f"the index does not say which model made its vectors; whether {name} did cannot be checked")


def find_limit(bundle: str | None, fmr: float | None, threshold: float | None, metric: str) -> Limit:
    """The threshold to accept by: the one given, or the bundle's for a false-match rate (None: its strictest).

    Raises SpecError where a rate is asked for that the bundle has no threshold for.
    """
    if threshold is not None:
        return Limit(threshold, source="given")
    known = load_header(bundle).thresholds if bundle is not None else None
    if known is None or not known.points or known.metric != metric:
        if fmr is not None:
            why = f"the bundle's are for {known.metric}" if known is not None and known.points else "none was measured"
            raise SpecError(
                "search.no-threshold",
                f"no threshold is known for metric {metric}: {why}",
                field=f"fmr={fmr:g}",
                remedy="`kinsight evaluate --bundle` writes them into the bundle; or give a threshold",
            )
        return Limit(None, source="none was measured")
    point = known.point(fmr)
    return Limit(point.threshold, point.fmr, "bundle")
