"""The two sides of an evaluation, queries and gallery: read, checked against each other, then embedded."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from kinsight import progress
from kinsight.data import Records, read_records, require_images
from kinsight.data.arrow import pc
from kinsight.data.stored import Embeddings, load_embeddings
from kinsight.errors import DataError
from kinsight.evaluation.embed import open_loader
from kinsight.evaluation.embedding import embed_records
from kinsight.evaluation.label_sets import has_several, label_sets
from kinsight.evaluation.matching import Matching, Wanted, match, refuse_without_effect
from kinsight.evaluation.model import Model
from kinsight.evaluation.targets import label_rows
from kinsight.specs.data import Source
from kinsight.specs.evaluate import EvaluateSpec

_ROWS = 2**16


@dataclass(frozen=True)
class Side:
    """Labelled vectors: the queries, or the gallery.

    vector_ND: float32. label_N: int64, positions in class_names. uri_N: address of each row, empty where unknown.
    row_N: int64 number of each row in its source. columns: what the source tells of each row.

    Where images have several labels, these are labels_NL, int64 positions in label_names padded with -1, and the
    classes are the sets of labels there are.
    """

    vector_ND: Tensor
    label_N: Tensor
    uri_N: pa.ChunkedArray
    row_N: np.ndarray
    class_names: tuple[str, ...]
    broken: list[tuple[str, str]]
    fingerprint: str | None
    columns: pa.Table | None = None
    labels_NL: Tensor | None = None
    label_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label_N)

    def uri(self, row: int) -> str:
        return self.uri_N[row].as_py()

    def class_name(self, row: int) -> str:
        return self.class_names[int(self.label_N[row])]


def embedded_sides(spec: EvaluateSpec, model: Model, wanted: Wanted) -> tuple[Side, Side | None, Matching]:
    """Queries and gallery (None: leave-one-out) of images, and who matches whom. All lists are checked before the first
    image is read."""
    assert spec.data is not None, "the spec has seen to it"
    query = _read(spec.data, "data", wanted)
    gallery = _read(spec.gallery, "gallery", wanted) if spec.gallery is not None else None
    several = any(has_several(records.table["labels"]) for records in (query, gallery) if records is not None)
    if several:
        refuse_without_effect(spec, leave_one_out=gallery is None)
    if gallery is None:
        _need_pairs(query.count_C, query.source)
    else:
        _need_common(query.class_names, gallery.class_names)
    query_side = _checked(spec, _embed(spec, model, query, "data", several))
    if gallery is None:
        return matched(wanted, query_side, None)
    gallery_side = _checked(spec, _embed(spec, model, gallery, "gallery", several))
    return matched(wanted, *_same_vocabulary(query_side, gallery_side))


def stored_sides(spec: EvaluateSpec, wanted: Wanted) -> tuple[Side, Side | None, Matching]:
    """Queries and gallery (None: leave-one-out) of stored embeddings, and who matches whom."""
    assert spec.embeddings is not None, "the spec has seen to it"
    found = load_embeddings(spec.embeddings)
    other = load_embeddings(spec.gallery_embeddings) if spec.gallery_embeddings is not None else None
    several = wanted.several and any(has_several(one.columns["labels"]) for one in (found, other) if one is not None)
    if several:
        refuse_without_effect(spec, leave_one_out=other is None)
    query = _stored(found, "embeddings", several)
    if other is None:
        label_M = query.label_N if query.labels_NL is None else query.labels_NL[query.labels_NL >= 0]
        _need_pairs(torch.bincount(label_M).numpy(), "embeddings")
        return matched(wanted, _checked(spec, query), None)
    _need_same_model(found, other)
    gallery = _stored(other, "gallery_embeddings", several)
    _need_common(query.class_names, gallery.class_names)
    return matched(wanted, *_same_vocabulary(_checked(spec, query), _checked(spec, gallery)))


def matched(wanted: Wanted, query: Side, gallery: Side | None) -> tuple[Side, Side | None, Matching]:
    """The sides and who matches whom between them; several labels become sets, which take the place of classes."""
    if query.labels_NL is None:
        return query, gallery, match(wanted, query, gallery)
    sides = [query, gallery] if gallery is not None else [query]
    given_NL = [side.labels_NL for side in sides if side.labels_NL is not None]
    rows, sets, names = label_sets(given_NL, query.class_names)
    query, *others = (
        replace(side, label_N=set_N, labels_NL=rows_NL, class_names=names, label_names=query.class_names)
        for side, set_N, rows_NL in zip(sides, sets, rows, strict=True)
    )
    gallery = others[0] if others else None
    return query, gallery, match(wanted, query, gallery)


def embedded_side(records: Records, emb_ND: Tensor, index_N: np.ndarray, broken: list[tuple[str, str]]) -> Side:
    """Embedded images, before they are `matched`. index_N: the record of each row."""
    return _side(records, emb_ND, index_N, broken, has_several(records.table["labels"]))


def _side(records: Records, emb_ND: Tensor, index_N: np.ndarray, broken: list[tuple[str, str]], several: bool) -> Side:
    kept = records.table.take(pa.array(index_N))
    labels_NL = label_rows(kept["labels"]) if several else None
    return Side(
        vector_ND=emb_ND,
        label_N=torch.zeros(len(kept), dtype=torch.int64) if several else torch.from_numpy(records.label_N[index_N]),
        uri_N=records.uris.take(pa.array(index_N)),
        row_N=index_N,
        class_names=records.class_names,
        broken=broken,
        fingerprint=records.fingerprint,
        columns=kept,
        labels_NL=labels_NL,
    )


def _read(source: Source, field: str, wanted: Wanted) -> Records:
    records = read_records(source, own_vocabulary=True)
    require_images(records, source, field=field)
    for note in records.notes:
        progress.warn(note)
    offset_N1, _ = records.labels_csr
    if wanted.several:
        return records
    if (several := np.flatnonzero(np.diff(offset_N1) > 1)).size:
        raise DataError(
            "data.label-count",
            f"has {len(records.labels(int(several[0])))} labels where one is needed; so have {several.size} images",
            field=records.place(int(several[0])),
            remedy="give each image one label: retrieval asks whether two images show the same class; or set "
            "relation.kind=shared-labels: whether they share one",
        )
    return records


def _embed(spec: EvaluateSpec, model: Model, records: Records, field: str, several: bool) -> Side:
    with (
        open_loader(spec, model, records, labelled=not several) as loader,
        progress.task(f"embed {field}", len(records), "images") as task,
    ):
        found = embed_records(model.net, loader, model.device, model.arithmetic, batch_size=spec.batch_size, task=task)
        return _side(records, found.emb_ND, found.index_N, loader.broken, several)


def _stored(found: Embeddings, field: str, several: bool) -> Side:
    label_N, labels_NL = found.label_N, label_rows(found.columns["labels"]) if several else None
    unlabelled = int((label_N < 0).sum()) if labels_NL is None else len(label_N) * int((labels_NL < 0).all())
    if unlabelled:
        raise DataError(
            "embeddings.labels",
            f"{unlabelled} of {len(found.label_N)} vectors have no single label to be evaluated by",
            field=field,
            remedy="embed images with one label each; or, with several, set relation.kind=shared-labels",
        )
    names = found.class_names
    if not names:  # the numbers of another tool are names, and may be large
        value_C, number = (label_N if labels_NL is None else labels_NL).unique(return_inverse=True)
        absent = int((value_C < 0).sum())
        names = tuple(str(value) for value in value_C[absent:].tolist())
        label_N, labels_NL = (number, None) if labels_NL is None else (label_N, number - absent)
    if labels_NL is not None:
        label_N = torch.zeros_like(label_N)
    broken = [(entry["image"], entry["reason"]) for entry in found.header.get("broken_images", ())]
    row_N = np.arange(len(label_N))
    fingerprint = found.header.get("data_fingerprint")
    columns = found.columns
    return Side(found.vector_ND, label_N, found.uri_N, row_N, names, broken, fingerprint, columns, labels_NL)


def _need_pairs(count_C: np.ndarray, source: str) -> None:
    if count_C.max(initial=0) < 2:
        raise DataError(
            "evaluation.no-pairs",
            f"no class has two images ({int(count_C.sum())} images of {np.count_nonzero(count_C)} classes), "
            "so nothing can be retrieved",
            field=source,
            remedy="evaluate on classes of two images or more, or set a gallery to search in",
        )


def _need_common(query_names: tuple[str, ...], gallery_names: tuple[str, ...]) -> None:
    if not set(query_names) & set(gallery_names):
        raise DataError(
            "evaluation.no-common-class",
            f"no class of the queries ({_some(query_names)}) is in the gallery ({_some(gallery_names)})",
            field="gallery",
            remedy="name the classes alike in both: they are matched by name",
        )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _need_same_model(query: Embeddings, gallery: Embeddings) -> None:
    ours, theirs = query.vector_ND.shape[1], gallery.vector_ND.shape[1]
    if ours != theirs:
        raise DataError(
            "embeddings.length",
            f"holds vectors of length {theirs}, those of the queries have {ours}",
            field="gallery_embeddings",
            remedy="embed both with the same model",
        )
    hashes = {found.header["model_hash"] for found in (query, gallery) if found.header.get("model_hash")}
    if len(hashes) > 1:
        raise DataError(
            "embeddings.other-model",
            f"was made by {gallery.header.get('model')}, the queries by {query.header.get('model')}",
            field="gallery_embeddings",
            remedy="embed both with the same model: distances between vectors of two models mean nothing",
        )


def _checked(spec: EvaluateSpec, side: Side) -> Side:
    """Raise DataError naming the first image whose vector cannot be compared."""
    for start in range(0, len(side), _ROWS):
        norm_B = side.vector_ND[start : start + _ROWS].double().norm(dim=1)
        bad_B = ~norm_B.isfinite() if spec.metric != "cosine" else ~norm_B.isfinite() | (norm_B == 0)
        if bool(bad_B.any()):
            row = start + int(bad_B.int().argmax())
            zero = float(norm_B[row - start]) == 0
            raise DataError(
                "evaluation.vector",
                f"row {row}: its vector {'is zero, which has no direction' if zero else 'holds NaN or infinity'}",
                field=side.uri(row) or "embeddings",
                remedy="leave the image out, or set metric=l2" if zero else "look for a model that has diverged",
            )
    return side


def _same_vocabulary(query: Side, gallery: Side) -> tuple[Side, Side]:
    """Both sides with one numbering: classes are the same when their names are."""
    known_N = gallery.uri_N.filter(pc.not_equal(gallery.uri_N, ""))
    if own := pc.sum(pc.is_in(query.uri_N, known_N)).as_py():
        progress.warn(f"{own} of the {len(query)} query images are in the gallery too: they find themselves")
    names = tuple(dict.fromkeys([*gallery.class_names, *query.class_names]))
    number = {name: index for index, name in enumerate(names)}

    def renumbered(side: Side) -> Side:
        number_C = torch.tensor([number[name] for name in side.class_names])
        labels_NL = side.labels_NL
        if labels_NL is not None:
            labels_NL = torch.where(labels_NL < 0, -1, number_C[labels_NL.clamp(min=0)])
        return replace(side, label_N=number_C[side.label_N], class_names=names, labels_NL=labels_NL)

    return renumbered(query), renumbered(gallery)
