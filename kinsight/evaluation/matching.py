"""Who counts as right in an evaluation: equal labels, or what a relation makes of several labels or super-classes.

Images of one label each are judged by it. A hierarchy and degrees of likeness add levels, at which the same search is
judged again. Where images have several labels, right is what the relation calls alike; each set of labels then takes
the place of a class: under it queries are named, drawn and resampled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, assert_never

import numpy as np
import pyarrow as pa
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from kinsight.data.arrow import pc
from kinsight.data.values import grouping_values
from kinsight.errors import DataError, KinsightError, SpecError
from kinsight.evaluation.targets import read_similarities
from kinsight.models import load_header
from kinsight.relations import Relation, SharedLabels, SoftLabels
from kinsight.specs import relations as specs
from kinsight.specs.evaluate import EvaluateSpec

SOFT_LEVEL = "alike"


@dataclass(frozen=True)
class Wanted:
    """A relation as set, or as a training had it. classes: that training's, by which it numbered them; None: as set."""

    relation: specs.Relation
    classes: tuple[str, ...] | None = None

    @property
    def several(self) -> bool:
        """Whether images may have several labels."""
        return isinstance(self.relation, specs.SharedLabelsSpec)


@dataclass(frozen=True)
class Alike:
    """Queries and gallery as a relation reads them; right is what it calls alike."""

    relation: Relation
    query_target: Tensor
    gallery_target: Tensor

    def __call__(self, row: int, other: int) -> bool:
        """Whether a query and an item of the gallery are alike."""
        positive_11 = self.relation.masks(self.query_target[row, None], self.gallery_target[other, None])[0].positive_AB
        return bool(positive_11)

    def positive_BN(self, row_B: Tensor) -> Tensor:
        """Which items are alike to these queries, bool."""
        return self.relation.masks(self.query_target[row_B], self.gallery_target)[0].positive_AB

    def to(self, device: torch.device) -> "Alike":
        """The same, computed there."""
        return Alike(self.relation, self.query_target.to(device), self.gallery_target.to(device))


LevelLabels = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Matching:
    """alike: where images have several labels, else right is an equal label. levels: by name, how the search is judged
    again: labels of queries and gallery, or likeness. reasons: why a level is missing. told: the relation, in words.
    """

    alike: Alike | None = None
    levels: Mapping[str, LevelLabels | Alike] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    told: str | None = None


class Labelled(Protocol):
    """What is asked of a side. columns: what its source tells of each row. labels_NL: see `Side`."""

    @property
    def label_N(self) -> Tensor: ...
    @property
    def labels_NL(self) -> Tensor | None: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def columns(self) -> pa.Table | None: ...


def wanted_relation(spec: EvaluateSpec) -> Wanted:
    """The relation that is set, else the bundle's. Raises StorageError, DataError for a bundle that cannot be read."""
    if spec.relation is not None:
        return Wanted(spec.relation)
    header = load_header(spec.bundle) if spec.bundle is not None else None
    given = (header.spec or {}).get("relation") if header is not None else None
    if header is None or given is None:
        return Wanted(specs.SameLabelSpec())
    try:
        relation: specs.Relation = TypeAdapter(specs.Relation).validate_python(given)
    except ValidationError:
        raise DataError(
            "bundle.relation",
            "was trained with a relation that this version does not know",
            field=str(spec.bundle),
            remedy="set relation.kind",
        ) from None
    return Wanted(relation, header.class_names)


def refuse_without_effect(spec: EvaluateSpec, *, leave_one_out: bool) -> None:
    """Raise SpecError for settings that do nothing for images of several labels."""
    for name in ("fprs", "max_pairs"):
        if getattr(spec, name) != EvaluateSpec.model_fields[name].default:
            raise SpecError(
                "evaluate.several-labels",
                "has no effect: verification needs one label per image, and these images have several",
                field=name,
                remedy="leave it out, or evaluate on images of one label each",
            )
    if spec.gallery_expansion is not None and leave_one_out:
        raise SpecError(
            "evaluate.several-labels",
            "in leave-one-out this needs one label per image, and these images have several",
            field="gallery_expansion",
            remedy="set a gallery to search in, or leave it out; query_expansion and rerank take several labels",
        )


def match(wanted: Wanted, query: Labelled, gallery: Labelled | None) -> Matching:
    """Who is right, for sides of one numbering of classes. Raises DataError where the data does not fit what was set.

    What a training had set and this data cannot tell is a level that is missing, with the reason.
    """
    searched, spec = gallery or query, wanted.relation
    if query.labels_NL is not None and searched.labels_NL is not None:
        assert isinstance(spec, specs.SharedLabelsSpec), "other relations are for one label each"
        relation = SharedLabels(spec.share)
        return Matching(Alike(relation, query.labels_NL, searched.labels_NL), told=_told(wanted))
    match spec:
        case specs.SameLabelSpec():
            return Matching()
        case specs.SharedLabelsSpec():
            return Matching(told=f"{_told(wanted)}; every image has one label, so the same as same-label")
        case specs.HierarchySpec():
            return _with_columns(wanted, spec, query, searched)
        case specs.SoftLabelsSpec():
            return _with_degrees(wanted, spec, query, searched)
    assert_never(spec)


def _told(wanted: Wanted) -> str:
    relation = wanted.relation
    words = relation.kind
    if isinstance(relation, specs.SharedLabelsSpec) and relation.share:
        words += f" (at least {100 * relation.share:g} % of the labels of both)"
    return words + (", as in the training" if wanted.classes is not None else "")


def _with_columns(wanted: Wanted, spec: specs.HierarchySpec, query: Labelled, searched: Labelled) -> Matching:
    levels, reasons = {}, {}
    for name in spec.columns:
        try:
            levels[name] = _column_labels(name, query, searched)
        except DataError as error:
            if wanted.classes is None:
                raise
            reasons[f"level={name}"] = error.message
    return Matching(levels=levels, reasons=reasons, told=_told(wanted))


def _column_labels(name: str, query: Labelled, searched: Labelled) -> LevelLabels:
    """One numbering of a column's values over both sides; rows without a value are alike to none."""
    sides = [query] if searched is query else [query, searched]
    fields = ("data", "gallery")[: len(sides)]
    value_N = pa.concat_arrays([_column(name, side, field) for side, field in zip(sides, fields, strict=True)])
    number_N = pc.fill_null(value_N.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    unknown_N = number_N < 0
    number_N[unknown_N] = number_N.max(initial=-1) + 1 + np.arange(unknown_N.sum())
    both = torch.from_numpy(number_N)
    own = len(query.label_N)
    return both[:own], both[:own] if searched is query else both[own:]


def _column(name: str, side: Labelled, field: str) -> pa.Array:
    columns = side.columns
    if columns is None or name not in columns.column_names:
        known = f"; its columns are {', '.join(columns.column_names)}" if columns is not None else ""
        remedy = "name a column with the super-classes in relation.columns"
        if name == "group":
            remedy = f"set {field}.group_column to the column with the super-classes"
        raise DataError("data.column", f"has no column {name}{known}", field=field, remedy=remedy)
    values = grouping_values(columns[name])
    if values is None:
        what = f"column {name} holds {columns[name].type}: expected whole numbers or text"
        raise DataError("data.column", what, field=field, remedy="name another column, or store its values as text")
    return values.cast(pa.string())  # so that 3 and "3" of two sources are the same


def _with_degrees(wanted: Wanted, spec: specs.SoftLabelsSpec, query: Labelled, searched: Labelled) -> Matching:
    """The matrix is in the order of the training's classes, or, as set here, of the names of both sides."""
    names = query.class_names if wanted.classes is None else wanted.classes
    try:
        relation = SoftLabels(read_similarities(spec.path, len(names)), spec.positive_from, spec.negative_below)
        number_C = torch.tensor(_places(query.class_names, names))
    except KinsightError as error:
        if wanted.classes is None:
            raise
        return Matching(reasons={f"level={SOFT_LEVEL}": error.message}, told=_told(wanted))
    alike = Alike(relation, number_C[query.label_N], number_C[searched.label_N])
    return Matching(levels={SOFT_LEVEL: alike}, told=_told(wanted))


def _places(names: Sequence[str], known: Sequence[str]) -> list[int]:
    place = {name: number for number, name in enumerate(known)}
    if strange := [name for name in names if name not in place]:
        more = f" and {len(strange) - 1} more classes" if len(strange) > 1 else ""
        raise DataError("data.similarities", f"no likeness is known of {strange[0]}{more}", field="relation.path")
    return [place[name] for name in names]
