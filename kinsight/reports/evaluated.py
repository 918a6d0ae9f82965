"""What a report is made from: the results of an evaluation, of a training, and what was run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from kinsight.metrics import DrawnPairs, RetrievalResult
from kinsight.models import Thresholds
from kinsight.neighbors import Metric
from kinsight.reports.classified import Classified


class Items(Protocol):
    """Labelled vectors with the addresses of their images.

    vector_ND: float32. label_N: int64, positions in class_names. uri: address of a row's image, empty where unknown.
    """

    @property
    def vector_ND(self) -> Tensor: ...
    @property
    def label_N(self) -> Tensor: ...
    @property
    def class_names(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...
    def uri(self, row: int) -> str: ...


@dataclass(frozen=True)
class Evaluated:
    """An evaluation. query, gallery: what searched and what was searched (None: the queries, but for each itself).

    metrics: flat name -> number, None where the data cannot tell, with `<name>.low` and `.high`; reasons: why, by name.
    retrieval: per query. pairs, thresholds: None where no pairs could be drawn. seed: of what is drawn for the page.
    improvements: what the `improved/` metrics were measured with, a line each, in order. Everything but the variants
    among the metrics (see `words.variant`) belongs to the plain search.

    Where images have several labels: alike says whether a query and an item are; labels_QL are the queries', int64
    positions in label_names padded with -1; and the classes of the items are their sets of labels.
    """

    query: Items
    gallery: Items | None
    metrics: Mapping[str, Any]
    reasons: Mapping[str, str]
    retrieval: RetrievalResult
    pairs: DrawnPairs | None
    thresholds: Thresholds | None
    metric: Metric = "cosine"
    confidence: float = 0.95
    seed: int = 0
    improvements: Sequence[str] = ()
    alike: Callable[[int, int], bool] | None = None
    labels_QL: Tensor | None = None
    label_names: Sequence[str] = ()

    @property
    def several(self) -> bool:
        """Whether images have several labels."""
        return self.labels_QL is not None

    def right(self, row: int, other: int) -> bool:
        """Whether an item is what a query looks for."""
        if self.alike is not None:
            return self.alike(row, other)
        return int(self.query.label_N[row]) == int(self.searched.label_N[other])

    @property
    def searched(self) -> Items:
        """What was searched in."""
        return self.query if self.gallery is None else self.gallery


@dataclass(frozen=True)
class Trained:
    """A training. rows: its metrics.jsonl. judged: the validation metric it was judged by, None without validation."""

    rows: Sequence[Mapping[str, Any]]
    judged: str | None


@dataclass(frozen=True)
class Report:
    """Everything on a page.

    lead: a sentence under the title. evaluated: embeddings; classified: a classifier. missing: why there is no
    evaluation and how to get one, a command on a line of its own. facts: (name, value) of what was run. settings: the
    resolved ones as YAML, without signatures. broken: (address, reason) of skipped images.
    """

    title: str
    lead: str = ""
    trained: Trained | None = None
    evaluated: Evaluated | None = None
    classified: Classified | None = None
    missing: str = ""
    facts: Sequence[tuple[str, str]] = ()
    settings: str = ""
    broken: Sequence[tuple[str, str]] = field(default_factory=tuple)
