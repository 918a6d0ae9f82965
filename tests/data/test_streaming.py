"""Stored embeddings read a block at a time hold what they hold read at once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from kinsight.data import load_embeddings, vectors
from kinsight.data.streaming import open_embeddings
from kinsight.errors import DataError, StorageError

VECTOR_ND = np.random.default_rng(0).standard_normal((40_000, 3)).astype(np.float32)


def _shards(folder, counts, *, extra=True, header_count=None):
    folder.mkdir()
    start = 0
    for number, count in enumerate(counts):
        here = slice(start, start + count)
        more = pa.table({"sku": [f"s{row}" for row in range(start, start + count)]}) if extra else None
        labels = pa.array([[row % 3] for row in range(count)], pa.list_(pa.int32()))
        uris = pa.array([f"{row}.png" for row in range(start, start + count)])
        path = folder / vectors.shard_name(number)
        vectors.write_shard(path, np.arange(count) + start, labels, uris, torch.from_numpy(VECTOR_ND[here]), more)
        start += count
    fields = {"storage": "parquet", "count": header_count or start, "dim": 3, "shards": len(counts), "class_names": []}
    vectors.write_header(folder, fields)
    return folder


def _check(address, whole):
    stream = open_embeddings(address)
    blocks = list(stream.blocks())
    assert (stream.count, stream.dim) == tuple(whole.vector_ND.shape)
    assert np.array_equal(np.concatenate([block.vector_ND for block in blocks]), whole.vector_ND.numpy())
    assert [uri for block in blocks for uri in block.uri.to_pylist()] == whole.uri_N.to_pylist()
    assert [one for block in blocks for one in block.labels.to_pylist()] == whole.columns["labels"].to_pylist()
    return stream, blocks


def test_shards_and_npy_files_stream_what_loading_gives(tmp_path):
    folder = _shards(tmp_path / "shards", [16_384, 5, 100])
    stream, blocks = _check(folder, load_embeddings(folder))
    assert [len(block.vector_ND) for block in blocks] == [16_384, 5, 100]
    assert blocks[1].columns.column_names == ["id", "sku"]
    assert stream.column("sku").to_pylist()[16_385] == "s16385"
    other = tmp_path / "other"
    other.mkdir()
    np.save(other / "vectors.npy", VECTOR_ND.astype(np.float64))
    np.save(other / "labels.npy", np.arange(40_000) % 7 - 1)
    stream, blocks = _check(other, load_embeddings(other))
    assert [len(block.vector_ND) for block in blocks] == [16_384, 16_384, 7_232]
    assert blocks[0].columns.num_columns == 0
    assert blocks[0].vector_ND.dtype == np.float32
    (other / "labels.npy").unlink()
    for address in (other, other / "vectors.npy"):
        bare = open_embeddings(address)
        assert bare.count == 40_000
        assert next(bare.blocks()).labels.to_pylist()[:2] == [[], []]
        assert set(bare.column("uri").to_pylist()) == {""}


def test_what_is_damaged_or_missing_is_said(tmp_path):
    with pytest.raises(StorageError, match="no embeddings there"):
        open_embeddings(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"neither embeddings\.json nor vectors\.npy"):
        open_embeddings(tmp_path)
    folder = _shards(tmp_path / "shards", [50, 50], header_count=101)
    with pytest.raises(DataError, match="100 vectors or more, the header says 101"):
        list(open_embeddings(folder).blocks())
    plain = _shards(tmp_path / "plain", [50, 50], extra=False)
    shutil.copy(plain / "part-00001.parquet", folder / "part-00001.parquet")
    with pytest.raises(DataError, match="other columns than the shards before"):
        list(open_embeddings(folder).blocks())
    with pytest.raises(DataError, match="no readable column 'sku'"):
        open_embeddings(folder).column("sku")
    (folder / "part-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable shard"):
        list(open_embeddings(folder).blocks())
    header = json.loads((folder / "embeddings.json").read_text()) | {"count": 0, "shards": 0}
    (folder / "embeddings.json").write_text(json.dumps(header))
    with pytest.raises(DataError, match="holds no vector"):
        open_embeddings(folder)
    for array in (np.zeros(4), np.array([["a"]]), np.zeros((0, 3))):
        np.save(tmp_path / "odd.npy", array)
        with pytest.raises(DataError, match=r"expected numbers|holds no vector"):
            open_embeddings(tmp_path / "odd.npy")


def test_what_is_wrong_with_an_npy_file_is_said_in_words(tmp_path: Path) -> None:
    file, whole_ND = tmp_path / "odd.npy", np.ones((4, 3), np.float32)
    for array, said in (
        (np.array([{}]), "holds Python objects, not numbers"),
        (whole_ND.astype(complex), r"holds complex numbers \(complex128\); expected numbers"),
        (whole_ND.astype("U3"), r"holds text \(<U3\); expected numbers"),
        (whole_ND > 0, r"holds true and false \(bool\); expected numbers"),
        (whole_ND[0], r"is float32 \(3,\); expected numbers \(N, D\)"),
    ):
        np.save(file, array, allow_pickle=True)
        with pytest.raises(DataError, match=rf"odd\.npy: .*{said}"):
            open_embeddings(file)
    np.save(file, whole_ND)
    data = file.read_bytes()
    for part, said in (
        (data[:-4], "it is truncated: 172 bytes, its header says 176"),
        (data[:50], "it ends within its header"),
        (data[:9], "it ends within its header"),
        (data[:5], "not a plain npy file"),
        (b"", "it is empty"),
        (b"1.0 2.0 3.0\n" * 9, "not a plain npy file"),
    ):
        file.write_bytes(part)
        with pytest.raises(DataError, match=said):
            open_embeddings(file)
    file.write_bytes(data)
    assert open_embeddings(file).count == 4
