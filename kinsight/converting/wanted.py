"""Which images are converted, and with which labels: those without any, and those nobody knows, as the spec says."""

import numpy as np

from kinsight import progress
from kinsight.data import Records, read_class_names, read_records, require_images
from kinsight.data.arrow import pc
from kinsight.errors import DataError
from kinsight.specs.convert import ConvertSpec


def wanted_records(spec: ConvertSpec) -> Records:
    """All images to convert. Raises DataError for labels that cannot be written, or none; StorageError."""
    classes = read_class_names(spec.classes) if spec.classes is not None else None
    records = read_records(spec.data, classes=classes, labelled=False)
    for note in records.notes:
        progress.warn(note)
    records = _without_bare(_without_unknown(records, spec), spec)
    if not len(records):
        raise DataError("data.list-empty", "no image is left", field=records.source, remedy="name images with labels")
    require_images(records, spec.data, field="data")
    return records


def _without_unknown(records: Records, spec: ConvertSpec) -> Records:
    """The records without labels nobody knows, for which no form here has a word."""
    if "unknown" not in records.table.column_names:
        return records
    count_N = pc.list_value_length(records.table["unknown"]).to_numpy()
    rows = np.flatnonzero(count_N)
    if rows.size and spec.unknown == "error":
        raise DataError(
            "convert.unknown-labels",
            "has labels of which nobody knows whether the image shows them, which no form here can hold; so have "
            f"{rows.size - 1:,} more",
            field=records.place(int(rows[0])),
            remedy="set unknown to absent (they count as not shown), or to leave-out (images with any are left out); "
            "or train from the source as it is",
        )
    if rows.size and spec.unknown == "absent":
        progress.warn(f"{int(count_N.sum()):,} unknown labels of {rows.size:,} images count as not shown")
    if rows.size and spec.unknown == "leave-out":
        progress.warn(f"{rows.size:,} of {len(records):,} images have labels nobody knows and are left out")
        records = records.take(np.flatnonzero(count_N == 0))
    return Records(records.table.drop_columns(["unknown"]), records.class_names, records.source, records.notes)


def _without_bare(records: Records, spec: ConvertSpec) -> Records:
    bare_N = np.diff(records.labels_csr[0]) == 0
    if bare_N.any() and spec.unlabelled == "error":
        raise DataError(
            "data.label-missing",
            f"has no label; so have {int(bare_N.sum()) - 1} more",
            field=records.place(int(np.flatnonzero(bare_N)[0])),
            remedy="set unlabelled to leave-out, or to keep if such images show none of the labels",
        )
    if bare_N.any() and spec.unlabelled == "leave-out":
        progress.warn(f"{int(bare_N.sum())} of {len(records)} images have no label and are left out")
        return records.take(np.flatnonzero(~bare_N))
    return records
