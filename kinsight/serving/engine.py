"""What a server answers with: a model, an index, and the similarity from which on an item counts as a match."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from kinsight import progress
from kinsight.data.decode import pixel_count
from kinsight.data.reading import shown
from kinsight.errors import DataError, SpecError
from kinsight.evaluation import load
from kinsight.evaluation.finite import refuse_not_finite
from kinsight.indexing import Index, parse_where
from kinsight.serving.by_class import Preference, nearest_classes
from kinsight.serving.current import CurrentIndex
from kinsight.serving.embedder import Embedder
from kinsight.serving.limits import find_limit
from kinsight.specs.serve import ServeSpec


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


_FILTERS = 16  # kept; each holds a few numbers for each item
By = Literal["classes", "items"]


class TooLarge(DataError):
    """A request is larger than the server takes."""


class Engine:
    """A loaded model with its index; `embed` and `search` may be called from many threads."""

    def __init__(self, spec: ServeSpec) -> None:
        """Load everything and run once. Raises SpecError, StorageError, DataError."""
        self.spec = spec
        self.model = load(spec.bundle, device=spec.device, precision=spec.precision)
        index = Index.open(spec.index, mapped=spec.mapped) if spec.index is not None else None
        if index is not None:
            check_same_model(index, self.model.content_hash, self.model.name)
            self.by(index)  # labels are counted now, not for the first request
            _check_column(index, spec.prefer)
        metric, normalized = (index.metric, index.header.normalized) if index is not None else ("cosine", None)
        self.limit = find_limit(spec.bundle, spec.fmr, spec.threshold, metric, normalized)
        self.preference = None if spec.prefer is None else Preference(spec.prefer, spec.prefer_by)
        size = self.model.image.image_size
        channels = 3 if self.model.image.color == "rgb" else 1
        self.model.vectors(torch.zeros(1, channels, size, size, dtype=torch.uint8))  # the first pass is slow: now
        # As the index's own vectors: where length counts, both sides need the same.
        self._unit = index is None or index.header.normalized is not False
        # A classifier reads vectors as long as the network makes them.
        self.embedder = Embedder(self.model, max_batch=spec.max_batch, max_waiting=spec.max_waiting, normalize=False)
        self._filtered: dict[tuple[int, tuple[str, ...]], Index] = {}
        self._filtering = threading.Lock()
        self._decoding = threading.BoundedSemaphore(spec.max_decoding)
        self._current = CurrentIndex(index, spec.reload_seconds) if index is not None else None

    @property
    def index(self) -> Index | None:
        """The newest usable version of the index."""
        return self._current.index if self._current is not None else None

    def embed(self, data: bytes, clock: Clock) -> np.ndarray:
        """The vector of an encoded image, as the index holds them. Raises BrokenImage, TooLarge, Overloaded, DataError
        for one that is not finite.
        """
        vector_D = self._vector(data, clock)
        if not self._unit:
            return vector_D
        return torch.nn.functional.normalize(torch.from_numpy(vector_D), dim=0).numpy()

    def predict(self, data: bytes, clock: Clock, top_k: int | None = None) -> dict[str, Any]:
        """What an encoded image shows: see `Decision.answers`. Raises as `embed`; DataError without a classifier."""
        decision, classifier = self.model.need_decision(), self.model.classifier
        assert classifier is not None, "a decision needs logits"
        vector_1D = torch.from_numpy(self._vector(data, clock))[None]
        with torch.inference_mode():
            logit_1C = classifier(vector_1D.to(self.model.device)).cpu()
        refuse_not_finite(["image"], logit_1C)
        return next(decision.answers(logit_1C, top_k=top_k))

    def _vector(self, data: bytes, clock: Clock) -> np.ndarray:
        pixels_CHW = clock.measure("decode", lambda: self._decode(data))
        vector_D = clock.measure("embed", lambda: self.embedder.vector(pixels_CHW))
        refuse_not_finite(["image"], torch.from_numpy(vector_D)[None])
        return vector_D

    def _decode(self, data: bytes) -> torch.Tensor:
        """A file of a few kilobytes may hold gigabytes of pixels: few of them, and few at once, bound the memory."""
        limit = self.spec.max_upload_megapixels
        if pixel_count(data) > limit * 1e6:
            raise TooLarge(
                "serve.too-many-pixels",
                f"the image has {pixel_count(data) / 1e6:.0f} million pixels, up to {limit:g} are taken",
                remedy="send a smaller image, or start the server with a larger max_upload_megapixels",
            )
        with self._decoding:
            return self.model.pixels(data)

    def by(self, index: Index) -> By:
        """What an answer's entries are unless a request says otherwise."""
        if self.spec.by != "auto":
            return self.spec.by
        return "classes" if any(size > 1 for size in index.label_sizes().values()) else "items"

    def search(
        self,
        vector_D: np.ndarray,
        k: int,
        clock: Clock,
        *,
        index: Index | None = None,
        own_row: int | None = None,
        by: By | None = None,
        where: Sequence[str] = (),
        recall: float | None = None,
    ) -> dict[str, Any]:
        """The nearest classes or items, and whether the first is near enough.

        index: the version that `own_row`, an item that is not to find itself, belongs to. by: None: as by `Engine.by`.
        where, recall: as `Index.where` (words, as `parse_where` takes them) and `Index.at`.
        """
        index = index or self.need_index()
        by = by or self.by(index)
        if not 1 <= k <= self.spec.max_k:
            raise SpecError("serve.k", f"expected 1 to {self.spec.max_k}", field=f"k={k}")
        index = self._restricted(index, tuple(where), recall)
        query_1D = torch.from_numpy(np.ascontiguousarray(vector_D[None], np.float32))
        exclude = torch.tensor([own_row]) if own_row is not None else None
        if by == "classes":
            found = clock.measure(
                "search",
                lambda: nearest_classes(index, query_1D, k, exclude_1=exclude, preference=self.preference),
            )
        else:
            found = clock.measure("search", lambda: _nearest_items(index, query_1D, k, exclude))
        results = [
            {"rank": rank, **entry, "uri": shown(entry["uri"]), "accepted": self.accepts(entry["similarity"])}
            for rank, entry in enumerate(found, 1)
        ]
        best = results[0] if results else None
        return {
            "accepted": self.accepts(_most_similar(best)) if best else None,
            "label": best["label"] if best else None,
            "version": index.version,
            "by": by,
            "results": results,
        }

    def _restricted(self, index: Index, where: tuple[str, ...], recall: float | None) -> Index:
        """The index for a request's own wishes; the last few filters are kept, as what they take is taken per item."""
        if where:
            key = (index.version, where)
            with self._filtering:
                found = self._filtered.pop(key, None) or index.where(parse_where(where))
                self._filtered[key] = found
                while len(self._filtered) > _FILTERS:
                    self._filtered.pop(next(iter(self._filtered)))
            index = found
        return index if recall is None else index.at(recall)

    def accepts(self, similarity: float) -> bool | None:
        """Whether a similarity is a match; None where no threshold is known."""
        return None if self.limit.threshold is None else similarity >= self.limit.threshold

    @property
    def chance_matches(self) -> float | None:
        """Items of other classes that a query is expected to match by chance: the rate is one per comparison."""
        return self.limit.fmr * len(self.index) if self.limit.fmr is not None and self.index is not None else None

    def need_index(self) -> Index:
        """The index, one version for the whole of a request. Raises SpecError where there is none."""
        if self.index is None:
            raise SpecError("serve.no-index", "this server has no index", remedy="start it with --index")
        return self.index

    def close(self) -> None:
        """Answer what waits, then stop."""
        self.embedder.close()
        if self._current is not None:
            self._current.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _nearest_items(index: Index, query_1D: torch.Tensor, k: int, exclude: torch.Tensor | None) -> list[dict[str, Any]]:
    hits = index.search(query_1D, k, exclude_Q=exclude)
    rows = [row for row in hits.row_QK[0].tolist() if row >= 0]
    similarities = hits.similarity_QK[0, : len(rows)].tolist()
    found = zip(rows, similarities, index.items(rows).to_pylist(), strict=True)
    return [{"row": row, **item, "similarity": similarity} for row, similarity, item in found]


def _most_similar(best: dict[str, Any]) -> float:
    """What decides whether the answer is a match: a preference chooses among near twins, not whether there is one."""
    return best.get("evidence", {}).get("most", best["similarity"])


def _check_column(index: Index, name: str | None) -> None:
    if name is not None and name not in index.columns:
        raise SpecError(
            "serve.prefer",
            f"the index has no such column; it has {', '.join(index.columns) or 'none besides its own'}",
            field=f"prefer={name}",
            remedy="name one of these, or build the index from embeddings of a list with such a column",
        )


def items(index: Index, rows: list[int]) -> list[dict[str, Any]]:
    """What is known of items, their addresses without signatures."""
    return [item | {"uri": shown(item["uri"])} for item in index.items(rows).to_pylist()]


def row_of_id(index: Index, id_: str | int) -> int:
    """The row of the item with a user's id. Raises NoSuchItem."""
    try:
        return int(index.rows_of([id_])[0])
    except DataError as error:
        raise NoSuchItem(error.code, error.message, field=error.field, remedy=error.remedy) from None


def live_row(index: Index, row: int) -> int:
    """`row`, if an item is there that has not been deleted. Raises NoSuchItem."""
    if not 0 <= row < index.num_rows:
        raise NoSuchItem("serve.no-item", f"the index has rows 0 to {index.num_rows - 1}", field=f"row={row}")
    if not index.is_live(row):
        raise NoSuchItem("serve.no-item", "this item has been deleted", field=f"row={row}")
    return row


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
