"""Records: the table, its file, and how it travels to another process."""

import json
import multiprocessing
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kinsight.data.records import Records
from kinsight.data.sources.presence import missing_images, require_images
from kinsight.data.sources.read import read_records
from kinsight.errors import DataError, StorageError
from kinsight.specs.data import Folder, ImageList


def records(num_images: int = 5, num_chunks: int = 1) -> Records:
    uris = [f"/图/{i}.jpg" for i in range(num_images)]
    labels = [[i % 3] for i in range(num_images)]
    cuts = np.linspace(0, num_images, num_chunks + 1).astype(int)
    pairs = list(pairwise(cuts))
    columns = {
        "uri": pa.chunked_array([pa.array(uris[a:b], pa.string()) for a, b in pairs]),
        "labels": pa.chunked_array([pa.array(labels[a:b], pa.list_(pa.int32())) for a, b in pairs]),
        "line": pa.array(range(1, num_images + 1), pa.int32()),
    }
    return Records(pa.table(columns), ("a", "b", "猫"), "train.txt", ("a note",))


def test_views() -> None:
    five = records()
    assert (len(five), five.num_classes, five.uri(np.int64(4)), five.place(4)) == (5, 3, "/图/4.jpg", "train.txt:5")
    assert five.label_N.tolist() == [0, 1, 2, 0, 1]
    assert five.label_N.dtype == np.int64
    assert five.count_C.tolist() == [2, 2, 1]
    chosen = five.take(np.array([4, 0]))
    assert ([chosen.uri(0), chosen.uri(1)], chosen.label_N.tolist()) == (["/图/4.jpg", "/图/0.jpg"], [1, 0])


def test_saving_and_mapping_keeps_everything(tmp_path: Path) -> None:
    before = records(1000, 7)
    before.save(tmp_path / "records.arrow")
    after = Records.load(tmp_path / "records.arrow")
    assert after.table.equals(before.table)
    assert (after.class_names, after.source, after.notes) == (before.class_names, before.source, before.notes)
    assert after.fingerprint == before.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["records.arrow"]


def test_a_mapped_file_costs_no_memory_and_travels_by_name(tmp_path: Path) -> None:
    big = records(20_000)
    allocated = pa.total_allocated_bytes()
    mapped = big.mapped(tmp_path / "r.arrow")
    assert pa.total_allocated_bytes() - allocated < 20_000
    assert len(pickle.dumps(mapped)) < 500
    assert pickle.loads(pickle.dumps(mapped)).fingerprint == big.fingerprint
    assert pickle.loads(pickle.dumps(big)).fingerprint == big.fingerprint


def _fingerprint(given: Records) -> str:
    return given.fingerprint


def test_another_process_sees_the_same(tmp_path: Path) -> None:
    mapped = records(100).mapped(tmp_path / "r.arrow")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_fingerprint, (mapped,)) == mapped.fingerprint


def test_the_fingerprint_is_about_content() -> None:
    base = records(1000, 1)
    assert records(1000, 9).fingerprint == base.fingerprint
    assert Records(base.table.drop_columns(["line"]), base.class_names).fingerprint == base.fingerprint
    others = [
        Records(base.table, ("a", "b", "c")),
        base.take(np.arange(999)),
        base.take(np.arange(1000)[::-1]),
        Records(base.table.append_column("group", pa.array([0] * 1000, pa.int32())), base.class_names),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_the_fingerprint_is_stable() -> None:
    # Stored with bundles and checkpoints: a change of this value makes yesterday's data look new.
    assert records().fingerprint == "2703b1477f691a28083484987f0f89d621e4b8a462ed6272f6474b1dbd74ba8e"


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a.jpg 0\n")
    with pytest.raises(DataError, match="is not a file of records"):
        Records.load(tmp_path / "text")
    with pa.OSFile(str(tmp_path / "other"), "wb") as file, pa.ipc.new_file(file, records().table.schema) as writer:
        writer.write_table(records().table)
    with pytest.raises(DataError, match="is not a file of records"):
        Records.load(tmp_path / "other")
    header = {"format": "kinsight-records", "version": 99, "class_names": [], "source": "", "notes": []}
    table = records().table.replace_schema_metadata({"kinsight-records": json.dumps(header)})
    with pa.OSFile(str(tmp_path / "new"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match="is version 99"):
        Records.load(tmp_path / "new")
    with pytest.raises(StorageError, match="no such file"):
        Records.load(tmp_path / "absent")


def make_images(folder: Path, num_images: int) -> None:
    folder.mkdir()
    for i in range(num_images):
        (folder / f"{i}.jpg").write_bytes(b"x")


def test_images_under_another_root_are_one_clear_error(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 100)
    (tmp_path / "train.txt").write_text("".join(f"{i}.jpg {i % 2}\n" for i in range(100)))
    source = ImageList(path=str(tmp_path / "train.txt"))
    lost = read_records(source)
    missing, num_asked = missing_images(lost, 10)
    assert (missing[0], len(missing), num_asked) == (0, 10, 10)
    with pytest.raises(DataError) as caught:
        require_images(lost, source, field="data.train")
    message = str(caught.value)
    assert "train.txt:1: 64 of 64 images" in message
    assert f"the first is {tmp_path}/0.jpg (relative paths start from the list's folder, {tmp_path})" in message
    assert "set data.train.root to the address" in message
    found = source.model_copy(update={"root": str(tmp_path / "images")})
    require_images(read_records(found), found)


def test_a_few_missing_images_are_left_to_the_loader(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 60)
    (tmp_path / "train.txt").write_text("".join(f"images/{i}.jpg 0\n" for i in range(64)))
    source = ImageList(path=str(tmp_path / "train.txt"))
    found = read_records(source)
    assert missing_images(found)[0].tolist() == [60, 61, 62, 63]
    require_images(found, source)
    with pytest.raises(DataError, match=r"train.txt:61: 4 of 64"):
        require_images(found, source, max_missing=0.05)


def test_absolute_paths_and_backslashes_are_told_apart(tmp_path: Path) -> None:
    source = ImageList(path=str(tmp_path / "train.txt"))
    (tmp_path / "train.txt").write_text("/nowhere/a.jpg 0\n")
    with pytest.raises(DataError, match="an absolute path in the list"):
        require_images(read_records(source), source)
    (tmp_path / "train.txt").write_text("images\\a.jpg 0\n")
    with pytest.raises(DataError, match="write the paths with `/`"):
        require_images(read_records(source), source)


def test_a_folder_whose_images_vanished(tmp_path: Path) -> None:
    make_images(tmp_path / "a", 2)
    source = Folder(path=str(tmp_path))
    found = read_records(source)
    (tmp_path / "a/0.jpg").unlink()
    (tmp_path / "a/1.jpg").unlink()
    with pytest.raises(DataError, match="check that the images were not moved"):
        require_images(found, source)
