"""Folds: class-disjoint, balanced, seeded, super-classes whole, and the same when asked for again."""

from pathlib import Path

import numpy as np
import pytest
from compared import draw_images

from kinsight import storage
from kinsight.comparing.folds import split_classes, write_folds
from kinsight.data import Records, read_records
from kinsight.errors import DataError, SpecError
from kinsight.specs.compare import FoldSpec
from kinsight.specs.data import Csv, Parquet


def _records(images: Path, **more: str) -> Records:
    return read_records(Csv(path=str(images), **more))


def test_every_class_is_held_out_once(images: Path) -> None:
    records = _records(images)
    fold_C = split_classes(records, FoldSpec(number=5), 0)
    assert sorted(np.bincount(fold_C).tolist()) == [2, 2, 2, 3, 3]
    again, other = (split_classes(records, FoldSpec(number=5, seed=seed), 0) for seed in (0, 1))
    assert fold_C.tolist() == again.tolist() != other.tolist()
    assert split_classes(records, FoldSpec(number=5), 1).tolist() != fold_C.tolist()


def test_super_classes_stay_together(images: Path) -> None:
    records = _records(images)
    fold_C = split_classes(records, FoldSpec(number=2, together="family"), 0)
    families = np.array([int(name[1:]) // 3 for name in records.class_names])
    assert all(len(set(fold_C[families == family])) == 1 for family in range(4))
    assert np.bincount(fold_C).tolist() == [6, 6]
    with pytest.raises(SpecError, match="more folds than the 4 values of family"):
        split_classes(records, FoldSpec(number=5, together="family"), 0)
    with pytest.raises(DataError, match="no column famly"):
        split_classes(records, FoldSpec(number=2, together="famly"), 0)


def test_lists_read_back(images: Path, tmp_path: Path) -> None:
    records = _records(images)
    folds = write_folds(records, FoldSpec(number=3), 0, storage.Address.parse(tmp_path))
    every: list[str] = []
    for fold in folds:
        train, held = (read_records(Parquet(**source)) for source in (fold.train, fold.held_out))
        assert not set(train.class_names) & set(held.class_names)
        assert len(train) + len(held) == len(records) and fold.images == len(held)
        assert "family" in train.table.column_names
        every += held.table["uri"].to_pylist()
    assert sorted(every) == sorted(records.table["uri"].to_pylist())
    assert write_folds(records, FoldSpec(number=3), 0, storage.Address.parse(tmp_path)) == folds
    with pytest.raises(SpecError, match="other folds"):
        write_folds(records, FoldSpec(number=2), 0, storage.Address.parse(tmp_path))


def test_groups_survive(images: Path, tmp_path: Path) -> None:
    records = _records(images, group_column="family")
    fold = write_folds(records, FoldSpec(number=2, together="group"), 0, storage.Address.parse(tmp_path))[0]
    assert len(set(read_records(Parquet(**fold.train)).table["group"].to_pylist())) == 2


def test_too_many_folds(images: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"folds\.number=13: more folds than the 12 classes"):
        split_classes(_records(images), FoldSpec(number=13), 0)
    with pytest.raises(DataError, match="holds out 1 classes"):
        split_classes(_records(images), FoldSpec(number=12), 0)
    lonely = draw_images(tmp_path / "lonely", classes=8, each=1, seed=0)
    with pytest.raises(DataError, match="two images of a class"):
        split_classes(_records(lonely), FoldSpec(number=2), 0)
