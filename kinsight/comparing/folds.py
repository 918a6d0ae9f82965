"""Class-disjoint folds of the training images, as lists that ordinary trainings read; another split for each seed.

folds/split-0/fold-0-train.parquet, fold-0-held-out.parquet, ...: address, class name, the source's further columns
folds/split-0/folds.json: how the classes were split for seed 0; written last
"""

import json
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from kinsight import storage
from kinsight.data import Records
from kinsight.data.records import OWN_COLUMNS
from kinsight.errors import DataError, SpecError
from kinsight.specs.compare import FoldSpec

FORMAT, VERSION = "kinsight-folds", 1
HEADER = "folds.json"
IMAGE, LABEL, GROUP = "kinsight_image", "kinsight_label", "group"


class Fold(NamedTuple):
    """One fold: sources of the images to train on and of those held out, as settings; numbers of classes and images."""

    train: dict[str, Any]
    held_out: dict[str, Any]
    classes: int
    images: int


def split_classes(records: Records, spec: FoldSpec, seed: int) -> np.ndarray:
    """Fold of each class, int64 (C,); -1 for classes without images. The same for the same classes and seeds.

    Folds are drawn at random and hold equally many classes, up to one; with `spec.together` super-classes go whole to
    the fold that has fewest. Raises SpecError, DataError where that leaves nothing to learn or to retrieve.
    """
    present_P = np.flatnonzero(records.count_C > 0)
    unit_P = present_P if spec.together is None else _super_classes(records, spec.together)[present_P]
    units = np.unique(unit_P)
    what = "classes" if spec.together is None else f"values of {spec.together}"
    if len(units) < spec.number:
        raise SpecError(
            "compare.folds",
            f"more folds than the {len(units)} {what} of {records.source}",
            field=f"folds.number={spec.number}",
            remedy=f"set it to at most {len(units)}",
        )
    fold_C = np.full(records.num_classes, -1, np.int64)
    for unit in np.random.default_rng([spec.seed, seed]).permutation(units):
        sizes = np.bincount(fold_C[fold_C >= 0], minlength=spec.number)
        fold_C[present_P[unit_P == unit]] = int(sizes.argmin())
    _check_folds(records, fold_C, spec)
    return fold_C


def _super_classes(records: Records, column: str) -> np.ndarray:
    """Super-class of each class, int64 (C,)."""
    value_N = records.numbers(column, field="folds.together")
    super_C = np.full(records.num_classes, -1, np.int64)
    super_C[records.label_N] = value_N
    if (odd := np.flatnonzero(super_C[records.label_N] != value_N)).size:
        name = records.class_names[records.label_N[odd[0]]]
        raise DataError(
            "compare.super-classes",
            f"images of class {name!r} have several values of {column}",
            field=records.place(int(odd[0])),
            remedy="give each class one super-class, or leave folds.together away",
        )
    return super_C


def _check_folds(records: Records, fold_C: np.ndarray, spec: FoldSpec) -> None:
    for fold in range(spec.number):
        held = records.count_C[fold_C == fold]
        kept = int(((fold_C >= 0) & (fold_C != fold)).sum())
        if len(held) < 2 or held.max() < 2 or kept < 2:
            raise DataError(
                "compare.small-fold",
                f"fold {fold} holds out {len(held)} classes of at most {held.max(initial=0)} images and leaves {kept} "
                "to learn: two classes on each side are needed, and two images of a class to retrieve",
                field=f"folds.number={spec.number}",
                remedy="use fewer folds, or more classes",
            )


def write_folds(records: Records, spec: FoldSpec, seed: int, folder: storage.Address) -> list[Fold]:
    """Write the lists of a seed's split below `folder`, or check that those there are the same; the folds.

    Raises SpecError when other folds are there, DataError where images have several labels.
    """
    label_N = records.label_N  # one label each, or an error
    fold_C = split_classes(records, spec, seed)
    folder = folder.child(f"split-{seed}")
    header = {
        "format": FORMAT,
        "version": VERSION,
        "folds": spec.model_dump(),
        "data_fingerprint": records.fingerprint,
        "classes": [np.array(records.class_names)[fold_C == fold].tolist() for fold in range(spec.number)],
    }
    known = _same_folds(header, folder)
    found = []
    for fold in range(spec.number):
        held_N = fold_C[label_N] == fold
        lists = [folder.child(f"fold-{fold}-{name}.parquet") for name in ("train", "held-out")]
        if not known:
            for rows_N, place in ((~held_N, lists[0]), (held_N, lists[1])):
                _write_list(records.take(np.flatnonzero(rows_N)), place)
        grouped = "group" in records.table.column_names
        sources = [_source(place, grouped) for place in lists]
        found.append(Fold(sources[0], sources[1], int((fold_C == fold).sum()), int(held_N.sum())))
    if not known:
        storage.write_text(folder.child(HEADER), json.dumps(header, indent=1, ensure_ascii=False) + "\n")
    return found


def _same_folds(header: dict[str, Any], folder: storage.Address) -> bool:
    place = folder.child(HEADER)
    if not storage.exists(place):
        return False
    before = json.loads(storage.read_text(place))
    differing = [
        name for name in ("version", "folds", "data_fingerprint", "classes") if before.get(name) != header[name]
    ]
    if differing:
        raise SpecError(
            "compare.other-folds",
            f"holds a comparison on other {'folds' if 'folds' in differing else 'images'}",
            field=str(folder),
            remedy="choose another output, or --overwrite to replace that comparison",
        )
    return True


def _source(place: storage.Address, grouped: bool) -> dict[str, Any]:
    return {
        "format": "parquet",
        "path": str(place),
        "image_column": IMAGE,
        "label_column": LABEL,
        "group_column": GROUP if grouped else None,
    }


def _write_list(records: Records, place: storage.Address) -> None:
    names = np.array(records.class_names, object)
    columns: dict[str, Any] = {
        IMAGE: records.uris,
        LABEL: pa.array(names[records.label_N], pa.string()),
    }
    if GROUP in records.table.column_names:
        columns[GROUP] = records.table[GROUP]
    columns |= {name: records.table[name] for name in records.table.column_names if name not in OWN_COLUMNS}
    with storage.open_write(place) as file:
        parquet.write_table(pa.table(columns), file)
