"""What `evaluate` says to data, models and outputs that are not as they should be: an error that helps, or a number
that is missing with a reason; never a wrong number."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_set import make_bundle, write_list

import kinsight
from kinsight.errors import DataError, KinsightError, SpecError, StorageError


def run(output: Path, **spec: object) -> dict[str, float | None]:
    return kinsight.evaluate({"output": str(output), "workers": 0, "bootstrap": 20, **spec}).metrics


def chosen(folder: Path, pictures: Path, lines: list[tuple[str, object]]) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    return {"path": str(write_list(folder / "list.txt", [(str(pictures / image), label) for image, label in lines]))}


def reasons(output: Path) -> dict[str, str]:
    return json.loads((output / "evaluation.json").read_text())["not_measurable"]


def test_one_class_retrieves_but_cannot_verify(pictures: Path, bundle: Path, tmp_path: Path):
    data = chosen(tmp_path, pictures, [(f"0/{n}.png", "only") for n in range(5)])
    metrics = run(tmp_path / "out", bundle=str(bundle), data=data)
    assert metrics["recall@1"] == metrics["map@r"] == 1.0
    assert "auc" not in metrics and "recall@1.low" not in metrics
    assert set(reasons(tmp_path / "out")) == {"verification", "intervals"}


@pytest.mark.parametrize("lines", [[("0/0.png", 0)], [("0/0.png", 0), ("1/0.png", 1), ("2/0.png", 2)]])
def test_nothing_to_retrieve_is_said_before_anything_is_embedded(
    lines: list[tuple[str, object]], pictures: Path, bundle: Path, tmp_path: Path
):
    with pytest.raises(DataError, match=rf"no class has two images \({len(lines)} images of {len(lines)} classes\)"):
        run(tmp_path / "out", bundle=str(bundle), data=chosen(tmp_path, pictures, lines))
    assert not (tmp_path / "out").exists()


def test_one_query_in_a_gallery(pictures: Path, bundle: Path, tmp_path: Path):
    query = chosen(tmp_path / "q", pictures, [("0/0.png", "a")])
    gallery = chosen(tmp_path / "g", pictures, [("0/1.png", "a"), ("1/0.png", "b"), ("2/0.png", "c")])
    metrics = run(tmp_path / "out", bundle=str(bundle), data=query, gallery=gallery, ks=[1, 3])
    assert metrics["queries"] == 1 and metrics["recall@3"] == 1.0 and metrics["gallery"] == 3


def test_a_gallery_without_the_queries_classes(pictures: Path, bundle: Path, tmp_path: Path):
    query = chosen(tmp_path / "q", pictures, [("0/0.png", "a"), ("0/1.png", "a")])
    gallery = chosen(tmp_path / "g", pictures, [("1/0.png", "b"), ("2/0.png", "c")])
    with pytest.raises(DataError, match=r"no class of the queries \(a\) is in the gallery \(b, c\)"):
        run(tmp_path / "out", bundle=str(bundle), data=query, gallery=gallery)


def test_fewer_images_than_ks(pictures: Path, bundle: Path, tmp_path: Path):
    data = chosen(tmp_path, pictures, [("0/0.png", 0), ("0/1.png", 0), ("1/0.png", 1)])
    metrics = run(tmp_path / "out", bundle=str(bundle), data=data, ks=[1, 2, 100, 10**9])
    assert metrics["recall@2"] == metrics["recall@100"] == metrics["recall@1000000000"] == 1.0
    assert metrics["queries_without_match"] == 1


def test_duplicates_tie_and_the_earlier_one_wins(pictures: Path, bundle: Path, tmp_path: Path, capsys):
    """The same picture in two classes: the neighbours of the last are decided by the order of the list."""
    lines: list[tuple[str, object]] = [("0/0.png", "a"), ("0/0.png", "b"), ("0/0.png", "b"), ("1/0.png", "a")]
    metrics = run(tmp_path / "out", bundle=str(bundle), data=chosen(tmp_path, pictures, lines), ks=[1, 2])
    # a0: b1, b2, a3. b1: a0, b2. b2: a0, b1. a3: a0 at the latest.
    assert metrics["recall@1"] == 0.25 and metrics["recall@2"] == 0.75
    assert "repeat an image that an earlier line names" in capsys.readouterr().err


def test_queries_that_are_in_the_gallery_are_said(pictures: Path, bundle: Path, tmp_path: Path, capsys):
    query = chosen(tmp_path / "q", pictures, [("0/0.png", "a"), ("1/0.png", "b")])
    gallery = chosen(tmp_path / "g", pictures, [("0/0.png", "a"), ("0/1.png", "a"), ("1/1.png", "b")])
    run(tmp_path / "out", bundle=str(bundle), data=query, gallery=gallery)
    assert "1 of the 2 query images are in the gallery too" in capsys.readouterr().err


def test_sources_without_one_label_each(pictures: Path, bundle: Path, tmp_path: Path):
    bare = tmp_path / "bare.txt"
    bare.write_text(f"{pictures}/0/0.png\n{pictures}/0/1.png\n")
    with pytest.raises(DataError, match=r"bare\.txt:1: no label follows"):
        run(tmp_path / "out", bundle=str(bundle), data={"path": str(bare)})
    several = tmp_path / "several.txt"
    several.write_text(f"{pictures}/0/0.png 1\n{pictures}/0/1.png 1 2\n")
    with pytest.raises(DataError, match=r"(?s)several\.txt:2: has 2 labels.*one label: retrieval asks"):
        run(tmp_path / "out", bundle=str(bundle), data={"path": str(several)})
    with pytest.raises(DataError, match="no class"):
        run(tmp_path / "out", bundle=str(bundle), data={"path": str(pictures / "0"), "format": "folder"})


def test_wrong_models(pictures: Path, bundle: Path, tmp_path: Path):
    data = {"path": str(pictures / "integers.txt")}
    with pytest.raises(StorageError, match=r"nowhere.*no model bundle"):
        run(tmp_path / "out", bundle=str(tmp_path / "nowhere"), data=data)
    interrupted = tmp_path / "run"
    (interrupted / "checkpoints").mkdir(parents=True)
    (interrupted / "spec.yaml").write_text("job: train\n")
    with pytest.raises(DataError, match="incomplete bundle"):
        run(tmp_path / "out", bundle=str(interrupted), data=data)
    cut = shutil.copytree(bundle, tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match="truncated or altered"):
        run(tmp_path / "out", bundle=str(cut), data=data)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"data": {"path": "x"}}, "give one of bundle, model, embeddings"),
        ({"bundle": "b", "embeddings": "e"}, "give one of bundle, model, embeddings"),
        ({"bundle": "b"}, "data.path is needed"),
        ({"embeddings": "e", "data": {"path": "x"}}, "no effect with embeddings"),
        ({"bundle": "b", "data": {"path": "x"}, "ks": [0]}, "every k must be at least 1"),
        ({"bundle": "b", "data": {"path": "x"}, "image": {"image_size": 32}}, "image has no effect without model"),
    ],
)
def test_contradictory_settings(spec: dict, message: str, tmp_path: Path):
    with pytest.raises(SpecError, match=message):
        run(tmp_path / "out", **spec)


def test_a_data_address_that_does_not_exist(bundle: Path, tmp_path: Path):
    with pytest.raises(DataError, match="there is no such list"):
        run(tmp_path / "out", bundle=str(bundle), data={"path": str(tmp_path / "nowhere.txt")})
    lost = write_list(tmp_path / "lost.txt", [(f"gone/{n}.png", 0) for n in range(4)])
    with pytest.raises(DataError, match=r"4 of 4 images looked up are not there"):
        run(tmp_path / "out", bundle=str(bundle), data={"path": str(lost)})


def test_output_that_cannot_be_written(pictures: Path, bundle: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    data = {"path": str(pictures / "integers.txt")}
    with pytest.raises(StorageError, match="a directory is needed"):
        run(tmp_path / "file", bundle=str(bundle), data=data)
    with pytest.raises(StorageError, match="read only"):
        kinsight.evaluate({"output": "https://example.org/out", "bundle": str(bundle), "data": data})
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.access(closed, os.W_OK):
        return  # the administrator may write anywhere
    with pytest.raises(StorageError, match="permission"):
        run(closed / "out", bundle=str(bundle), data=data)


def test_a_second_evaluation_replaces_the_first(pictures: Path, bundle: Path, tmp_path: Path):
    run(tmp_path, bundle=str(bundle), data={"path": str(pictures / "integers.txt")})
    assert (tmp_path / "retrieval.png").exists()
    write_npy(tmp_path / "vectors", np.eye(4, 3) + 0.1, [0, 0, 1, 1])
    before = (tmp_path / "evaluation.json").read_bytes()
    with pytest.raises(SpecError, match="holds an evaluation of other settings: bundle was") as caught:
        run(tmp_path, embeddings=str(tmp_path / "vectors"))
    assert "--overwrite" in str(caught.value) and (tmp_path / "evaluation.json").read_bytes() == before
    given = {"embeddings": str(tmp_path / "vectors"), "output": str(tmp_path), "workers": 0, "bootstrap": 20}
    metrics = kinsight.evaluate(given, overwrite=True).metrics
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics and metrics["gallery"] == 4
    assert not (tmp_path / "retrieval.png").exists(), "the picture belonged to the first"
    run(tmp_path, embeddings=str(tmp_path / "vectors"))  # the same again


def test_a_zero_vector_is_named_by_its_image(tmp_path: Path):
    vectors = np.ones((4, 3))
    vectors[2] = 0
    write_npy(tmp_path, vectors, [0, 0, 1, 1], uris=["a", "b", "c.png", "d"])
    with pytest.raises(DataError, match=r"c\.png: row 2: its vector is zero"):
        run(tmp_path / "out", embeddings=str(tmp_path))
    assert run(tmp_path / "out", embeddings=str(tmp_path), metric="l2")["queries"] == 4
    vectors[1] = np.nan
    write_npy(tmp_path, vectors, [0, 0, 1, 1])
    with pytest.raises(DataError, match="row 1: its vector holds NaN"):
        run(tmp_path / "out", embeddings=str(tmp_path), metric="l2")


def write_npy(folder: Path, vectors: np.ndarray, labels: list[int], uris: list[str] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    np.save(folder / "vectors.npy", vectors.astype(np.float32))
    np.save(folder / "labels.npy", np.array(labels, np.int64))
    if uris is not None:
        (folder / "uris.txt").write_text("".join(f"{uri}\n" for uri in uris))
    return folder


def test_embeddings_of_another_tool_that_do_not_fit(tmp_path: Path):
    folder = write_npy(tmp_path / "v", np.ones((4, 3)), [0, 0, 1, 1])

    def refused(match: str) -> None:
        with pytest.raises(DataError, match=match):
            run(tmp_path / "out", embeddings=str(folder))

    write_npy(folder, np.ones((4, 3)), [0, 0, 1])
    refused(r"vectors.npy is \(4, 3\), labels.npy is \(3,\)")
    write_npy(folder, np.ones((4, 3)), [0, 0, -1, 1])
    refused("1 of 4 vectors have no single label")
    np.save(folder / "labels.npy", np.array([0.0, 1.5, 2.0, 1.0]))
    refused("labels.npy holds float64")
    np.save(folder / "labels.npy", np.array(["a", "b", "c", "d"]))
    refused("labels.npy holds <U1")
    np.save(folder / "labels.npy", np.array([None, 1, 2, 3]), allow_pickle=True)
    refused("not a plain npy file")
    (folder / "labels.npy").write_bytes(b"")
    refused("not a plain npy file")
    with (folder / "labels.npy").open("wb") as file:
        np.savez(file, a=np.arange(4))
    refused("an archive of arrays")
    write_npy(folder, np.ones((4, 3)), [0, 0, 1, 1], uris=["one"])
    refused("1 lines for 4 vectors")
    write_npy(folder, np.ones((4, 3)), [0, 0, 1, 1], uris=list("abcd"))
    whole = (folder / "vectors.npy").read_bytes()
    (folder / "vectors.npy").write_bytes(whole[:-4])
    refused("not a plain npy file")
    write_npy(folder, np.zeros((0, 3)), [], uris=None)
    (folder / "uris.txt").unlink()
    refused("holds no vector")
    (folder / "labels.npy").unlink()
    refused("holds neither embeddings.json nor")


@pytest.fixture
def stored(pictures: Path, bundle: Path, tmp_path: Path) -> Path:
    data = {"path": str(pictures / "integers.txt")}
    run(tmp_path / "first", bundle=str(bundle), data=data, save_embeddings=True)
    return tmp_path / "first/embeddings"


def test_altered_embeddings_are_refused(stored: Path, tmp_path: Path):
    shard, header = stored / "part-00000.parquet", stored / "embeddings.json"
    good_shard, good_header = shard.read_bytes(), json.loads(header.read_text())

    def refused(match: str, kind: type[KinsightError] = DataError, **changes: object) -> None:
        header.write_text(json.dumps({**good_header, **changes}))
        with pytest.raises(kind, match=match):
            run(tmp_path / "out", embeddings=str(stored))

    refused("is kinsight-embeddings version 2, expected", version=2)
    refused("is other version 1", format="other")
    refused("holds 30 vectors, the header says 31", count=31)
    refused("holds 30 vectors or more, the header says 7", count=7)
    refused("vectors of length 12, the header says 13", dim=13)
    refused("holds label 5, but 2 class names", class_names=["a", "b"])
    refused("count is 'x'", count="x")
    refused("part-00001", StorageError, shards=2)
    table = pq.read_table(shard)
    pq.write_table(table.drop_columns(["uri"]), shard)
    refused("no column 'uri'")
    pq.write_table(table.set_column(3, "vector", table["vector"].cast(pa.list_(pa.float32()))), shard)
    refused("no column 'vector'")
    shard.write_bytes(good_shard[:-50])
    refused("not a readable shard")
    shard.write_bytes(good_shard)
    header.write_text("{")
    with pytest.raises(DataError, match="is no JSON"):
        run(tmp_path / "out", embeddings=str(stored))
    header.unlink()
    (stored / "spec.yaml").write_text("job: embed\n")
    with pytest.raises(DataError, match="not finished"):
        run(tmp_path / "out", embeddings=str(stored))


def test_gallery_embeddings_must_be_the_same_models(stored: Path, pictures: Path, tmp_path: Path):
    data = {"path": str(pictures / "integers.txt")}
    for name, seed, dim in (("other", 1, 12), ("longer", 0, 13)):
        model = make_bundle(tmp_path / name, seed=seed, embedding_dim=dim)
        run(tmp_path / f"{name}-out", bundle=str(model), data=data, save_embeddings=True)
    with pytest.raises(DataError, match=r"made by .*other, the queries by .*bundle"):
        run(tmp_path / "x", embeddings=str(stored), gallery_embeddings=str(tmp_path / "other-out/embeddings"))
    with pytest.raises(DataError, match="vectors of length 13, those of the queries have 12"):
        run(tmp_path / "x", embeddings=str(stored), gallery_embeddings=str(tmp_path / "longer-out/embeddings"))
    metrics = run(tmp_path / "x", embeddings=str(stored), gallery_embeddings=str(stored))
    assert metrics["recall@1"] == 1.0, "each finds itself"


def test_a_signed_address_is_stored_without_its_signature(pictures: Path, bundle: Path, tmp_path: Path):
    from servers import web_server

    with web_server(pictures) as server:
        lines = [(f"{server.url}/{label}/{n}.png?Signature=secret", label) for label in range(2) for n in range(2)]
        write_list(pictures.parent / "signed.txt", lines)
        data = {"path": str(pictures.parent / "signed.txt")}
        run(tmp_path, bundle=str(bundle), data={**data, "root": f"{server.url}/?Signature=secret"})
    text = "".join(path.read_text() for path in tmp_path.glob("*.json"))
    assert "secret" not in text and f"{server.url}" in text
