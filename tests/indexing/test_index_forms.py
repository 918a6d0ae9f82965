"""Indexes and partitions of the same vectors in every form are the same."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from index_cases import grouped, queries, store

from kinsight.cli import main
from kinsight.errors import DataError
from kinsight.indexing import Index, add, build
from kinsight.partition import learn

WHOLE_ND = np.abs(grouped(3000) * 20).round().clip(1, 255).astype(np.uint8)


def written(folder: Path, form: str, vector_ND: np.ndarray) -> str:
    """Vectors in some form."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"v.{form}"
    match form:
        case "embedded":
            store(place, vector_ND.astype(np.float32))
        case "folder":
            place.mkdir()
            np.save(place / "vectors.npy", vector_ND)
        case "npy":
            np.save(place, vector_ND)
        case "fvecs" | "bvecs":
            kind = "<f4" if form == "fvecs" else "u1"
            table = np.empty(len(vector_ND), np.dtype([("dim", "<i4"), ("row", kind, vector_ND.shape[1:])]))
            table["dim"], table["row"] = vector_ND.shape[1], vector_ND
            table.tofile(place)
        case "hdf5":
            with h5py.File(place, "w") as file:
                file["train"], file["test"] = vector_ND, vector_ND[:7]
        case "parquet":
            lists = pa.array(list(vector_ND.astype(np.float32)), pa.list_(pa.float32()))
            sku = [f"{folder.name}{row}" for row in range(len(vector_ND))]
            pq.write_table(pa.table({"vector": lists, "sku": sku}), place)
    return str(place)


FORMS = ("embedded", "folder", "npy", "fvecs", "bvecs", "hdf5", "parquet")


@pytest.mark.parametrize("form", FORMS)
def test_an_index_of_every_form(form: str, tmp_path: Path) -> None:
    first, more = written(tmp_path / "a", form, WHOLE_ND[:2000]), written(tmp_path / "b", form, WHOLE_ND[2000:])
    build({"embeddings": first, "output": str(tmp_path / "index")})
    add({"index": str(tmp_path / "index"), "embeddings": more})
    index = Index.open(tmp_path / "index")
    assert np.array_equal(index.vectors(np.arange(3000)).numpy(), WHOLE_ND.astype(np.float32))
    assert (index.model, index.header.normalized) == (("runs/first", False) if form == "embedded" else (None, None))


@pytest.mark.parametrize("form", FORMS)
def test_a_partition_of_every_form(form: str, tmp_path: Path) -> None:
    spec = {"metric": "l2", "lists": 8, "held_out": 200, "fit": {"epochs": 2}, "cluster": {"iterations": 2}}
    place = written(tmp_path, form, WHOLE_ND)
    log = written(tmp_path / "log", form, WHOLE_ND[::2])
    found = learn(spec | {"vectors": place, "queries": log, "output": str(tmp_path / "out"), "device": "cpu"})
    assert (found.model, found.model_hash) == (("runs/first", "a" * 64) if form == "embedded" else (None, None))
    if form != "npy":
        place, log = written(tmp_path, "npy", WHOLE_ND), written(tmp_path / "log", "npy", WHOLE_ND[::2])
        learn(spec | {"vectors": place, "queries": log, "output": str(tmp_path / "same"), "device": "cpu"})
        weights = [(tmp_path / name / "ivfast.npy").read_bytes() for name in ("out", "same")]
        assert weights[0] == weights[1]


def test_further_columns_of_a_parquet_file_are_kept(tmp_path: Path) -> None:
    spec = {"output": str(tmp_path / "index"), "id_column": "sku"}
    build(spec | {"embeddings": written(tmp_path / "a", "parquet", WHOLE_ND[:50])})
    add({"index": spec["output"], "embeddings": written(tmp_path / "b", "parquet", WHOLE_ND[50:60])})
    assert Index.open(spec["output"]).rows_of(["a3", "b9"]).tolist() == [3, 59]


def test_a_search_with_the_queries_of_an_ann_benchmarks_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = written(tmp_path, "hdf5", WHOLE_ND)
    assert main(["index", "build", place, "--output", str(tmp_path / "index"), "--metric", "l2"]) == 0
    capsys.readouterr()
    assert main(["search", str(tmp_path / "index"), "--vectors", place, "--k", "1", "--format", "jsonl"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 7


@pytest.mark.parametrize("form", ["npy", "fvecs", "hdf5", "parquet", "embedded"])
def test_a_vector_with_nan_is_named(form: str, tmp_path: Path) -> None:
    bad_ND = WHOLE_ND.astype(np.float32)
    bad_ND[2345, 6] = np.nan
    place = written(tmp_path, form, bad_ND)
    learning: dict[str, Any] = {"vectors": place, "output": str(tmp_path / "out"), "device": "cpu", "held_out": 200}
    with pytest.raises(DataError, match="row 2345 holds NaN"):
        learn(learning)
    with pytest.raises(DataError, match=r"row 2345: .*holds NaN"):
        build({"embeddings": place, "output": str(tmp_path / "index")})
    bad_ND[2345] = 0
    place = written(tmp_path / "zero", form, bad_ND)
    with pytest.raises(DataError, match="row 2345 is a zero vector"):
        learn(learning | {"vectors": place, "output": str(tmp_path / "other")})


def test_searches_agree_between_forms(tmp_path: Path) -> None:
    hits = []
    for form in FORMS:
        build({"embeddings": written(tmp_path / form, form, WHOLE_ND), "output": str(tmp_path / form / "index")})
        hits.append(Index.open(tmp_path / form / "index").search(queries(), 10).row_QK.tolist())
    assert all(rows == hits[0] for rows in hits)
