"""The same vectors in every form that is read: all at once, by blocks, by row, and what is wrong named by its row."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from kinsight.data import vectors
from kinsight.data.streaming import open_embeddings
from kinsight.errors import DataError, StorageError

COUNT, DIM = 40_000, 5
WHOLE_ND = np.random.default_rng(0).integers(0, 200, (COUNT, DIM)).astype(np.float32)


def _embedded(folder: Path, vector_ND: np.ndarray) -> Path:
    place, sizes = folder / "embedded", (16_384, 16_384, len(vector_ND) - 2 * 16_384)
    place.mkdir(parents=True)
    for number, size in enumerate(sizes):
        start = 16_384 * number
        labels = pa.array([[1]] * size, pa.list_(pa.int32()))
        uris = pa.array([f"{start + row}.png" for row in range(size)])
        part = torch.from_numpy(vector_ND[start : start + size].astype(np.float32))
        vectors.write_shard(place / vectors.shard_name(number), np.arange(start, start + size), labels, uris, part)
    fields = {"storage": "parquet", "count": len(vector_ND), "dim": DIM, "shards": 3, "class_names": []}
    vectors.write_header(place, fields | {"model": "runs/a", "model_hash": "f" * 64, "normalized": True})
    return place


def _folder(folder: Path, vector_ND: np.ndarray) -> Path:
    (folder / "plain").mkdir()
    np.save(folder / "plain" / "vectors.npy", vector_ND)
    return folder / "plain"


def _npy(folder: Path, vector_ND: np.ndarray) -> Path:
    np.save(folder / "v.npy", vector_ND)
    return folder / "v.npy"


def _fortran(folder: Path, vector_ND: np.ndarray) -> Path:
    return _npy(folder, np.asfortranarray(vector_ND.astype(np.float64)))


def _records(folder: Path, vector_ND: np.ndarray, name: str, dtype: str) -> Path:
    record = np.empty(len(vector_ND), np.dtype([("dim", "<i4"), ("row", dtype, (DIM,))]))
    record["dim"], record["row"] = DIM, vector_ND
    record.tofile(folder / name)
    return folder / name


def _fvecs(folder: Path, vector_ND: np.ndarray) -> Path:
    return _records(folder, vector_ND, "v.fvecs", "<f4")


def _bvecs(folder: Path, vector_ND: np.ndarray) -> Path:
    return _records(folder, vector_ND, "v.bvecs", "u1")


def _hdf5(folder: Path, vector_ND: np.ndarray) -> Path:
    with h5py.File(folder / "v.hdf5", "w") as file:
        file["train"], file["test"] = vector_ND, vector_ND[:10]
    return folder / "v.hdf5"


def _parquet(folder: Path, vector_ND: np.ndarray) -> Path:
    lists = pa.array(list(vector_ND.astype(np.float64)), pa.list_(pa.float64()))
    pq.write_table(
        pa.table({"sku": [f"s{row}" for row in range(len(vector_ND))], "vector": lists}),
        folder / "v.parquet",
        row_group_size=7000,
    )
    return folder / "v.parquet"


FORMS = [_embedded, _folder, _npy, _fortran, _fvecs, _bvecs, _hdf5, _parquet]
Form = Callable[[Path, np.ndarray], Path]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_gives_the_same(form: Form, tmp_path: Path) -> None:
    stream = open_embeddings(form(tmp_path, WHOLE_ND))
    assert (stream.count, stream.dim) == (COUNT, DIM)
    blocks = list(stream.blocks())
    assert np.array_equal(np.concatenate([block.vector_ND for block in blocks]), WHOLE_ND)
    assert all(block.vector_ND.dtype == np.float32 and block.vector_ND.flags.writeable for block in blocks)
    assert all(len(block.uri) == len(block.labels) == len(block.vector_ND) <= 16_384 for block in blocks)
    assert len(stream.column("uri")) == COUNT
    some_M = np.random.default_rng(1).permutation(COUNT)[:9000]
    assert np.array_equal(stream.rows.take(some_M), WHOLE_ND[some_M])
    found = dict(stream.rows.blocks(11_000))
    assert list(found) == [0, 11_000, 22_000, 33_000]
    assert np.array_equal(np.concatenate(list(found.values())), WHOLE_ND)
    assert all(part.dtype == np.float32 for part in found.values())


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize(("start", "stop"), [(0, 10), (9_000, 33_001), (16_384, 32_768), (39_999, 40_000)])
def test_a_part_of_it(form: Form, start: int, stop: int, tmp_path: Path) -> None:
    whole = open_embeddings(form(tmp_path, WHOLE_ND))
    part = whole.between(start, stop)
    assert part.count == stop - start
    assert np.array_equal(np.concatenate([block.vector_ND for block in part.blocks()]), WHOLE_ND[start:stop])
    uris = [uri for block in part.blocks() for uri in block.uri.to_pylist()]
    assert uris == whole.column("uri").to_pylist()[start:stop] == part.column("uri").to_pylist()
    assert np.array_equal(
        part.rows.take(np.array([part.count - 1, 0])[: part.count]), WHOLE_ND[[stop - 1, start]][: part.count]
    )
    assert np.array_equal(np.concatenate([rows for _, rows in part.rows.blocks(7000)]), WHOLE_ND[start:stop])


def test_what_is_known_beside_the_vectors_comes_along(tmp_path: Path) -> None:
    stream = open_embeddings(_embedded(tmp_path, WHOLE_ND))
    assert {name: stream.header[name] for name in ("model", "model_hash", "normalized")} == {
        "model": "runs/a",
        "model_hash": "f" * 64,
        "normalized": True,
    }
    table = open_embeddings(_parquet(tmp_path, WHOLE_ND))
    assert table.column("sku").to_pylist()[-1] == "s39999"
    assert next(table.blocks()).columns.column_names == ["sku"]
    named = pa.table({"uri": ["a", None], "labels": [[1, 2], []], "vector": [[1.0], [2.0]]})
    pq.write_table(named, tmp_path / "named.parquet")
    block = next(open_embeddings(tmp_path / "named.parquet").blocks())
    assert (block.uri.to_pylist(), block.labels.to_pylist()) == (["a", ""], [[1, 2], []])


@pytest.mark.parametrize("form", [form for form in FORMS if form is not _bvecs], ids=lambda form: form.__name__)
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_the_row_with_nan_is_named(form: Form, bad: float, tmp_path: Path) -> None:
    vector_ND = WHOLE_ND.copy()
    vector_ND[31_234, 3] = bad
    rows = open_embeddings(form(tmp_path, vector_ND)).rows
    for read in (lambda: list(rows.blocks()), lambda: rows.take(np.arange(COUNT)[::-1])):
        with pytest.raises(DataError, match="row 31234 holds NaN"):
            read()


def test_zero_vectors_are_named_where_they_have_no_similarity(tmp_path: Path) -> None:
    vector_ND = WHOLE_ND + 1
    vector_ND[20_001] = 0
    rows = open_embeddings(_npy(tmp_path, vector_ND)).rows
    assert len(list(rows.for_metric("l2").blocks())) == 1
    with pytest.raises(DataError, match="row 20001 is a zero vector"):
        list(rows.for_metric("cosine").blocks())


def test_numbers_beyond_float32_are_named(tmp_path: Path) -> None:
    vector_ND = WHOLE_ND.astype(np.float64)
    vector_ND[7, 0] = 1e300
    with pytest.raises(DataError, match="row 7 holds NaN, infinity, or more than float32 holds"):
        open_embeddings(_npy(tmp_path, vector_ND)).rows.take(np.arange(10))


def test_the_data_set_of_an_hdf5_file(tmp_path: Path) -> None:
    assert open_embeddings(_hdf5(tmp_path, WHOLE_ND), dataset="test").count == 10
    with pytest.raises(DataError, match=r"no matrix of numbers 'queries'.*\n.*it has test, train"):
        open_embeddings(tmp_path / "v.hdf5", dataset="queries")


@pytest.mark.parametrize("form", [_npy, _fvecs, _bvecs, _hdf5, _parquet], ids=lambda form: form.__name__)
def test_truncated_files_are_refused(form: Form, tmp_path: Path) -> None:
    file = form(tmp_path, WHOLE_ND)
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(DataError) as caught:
        list(open_embeddings(file).rows.blocks())
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"emb": [[1.0]]}, r"no column 'vector'.*\n.*emb"),
        ({"vector": ["a"]}, "holds string"),
        ({"vector": [[1.0], [1.0, 2.0]]}, "different lengths"),
        ({"vector": [[1.0], None]}, "different lengths"),
        ({"vector": [[1.0], [None]]}, "missing numbers"),
        ({"vector": pa.array([], pa.list_(pa.float32()))}, "holds no vector"),
        ({"vector": [[1.0]], "uri": [3]}, "'uri' holds int64, not text"),
        ({"vector": [[1.0]], "labels": [[0.5]]}, "'labels' holds .*, not text or integers"),
    ],
)
def test_parquet_files_that_hold_no_vectors(table: dict, said: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(table), tmp_path / "odd.parquet")
    with pytest.raises(DataError, match=said):
        list(open_embeddings(tmp_path / "odd.parquet").blocks())


def test_row_groups_of_different_lengths(tmp_path: Path) -> None:
    lists = pa.array([[1.0, 2.0]] * 10 + [[1.0]] * 10)
    pq.write_table(pa.table({"vector": lists}), tmp_path / "odd.parquet", row_group_size=10)
    with pytest.raises(DataError, match="different lengths"):
        list(open_embeddings(tmp_path / "odd.parquet").rows.blocks())


def test_shards_that_are_not_as_the_header_says(tmp_path: Path) -> None:
    place = _embedded(tmp_path, WHOLE_ND)
    (place / vectors.shard_name(2)).write_bytes((place / vectors.shard_name(1)).read_bytes())
    with pytest.raises(DataError, match="holds 49152 vectors of length 5, the header says 40000 of 5"):
        _ = open_embeddings(place).rows
    (place / vectors.shard_name(2)).unlink()
    with pytest.raises(StorageError, match="part-00002"):
        _ = open_embeddings(place).rows


def test_what_is_nothing_of_this_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"ends in npy, fvecs.*parquet"):
        open_embeddings(tmp_path / "notes.txt")
    for name in ("gone.npy", "gone.fvecs", "gone.hdf5", "gone.parquet", "gone"):
        with pytest.raises(StorageError, match=r"no such file|no embeddings there"):
            open_embeddings(tmp_path / name)
