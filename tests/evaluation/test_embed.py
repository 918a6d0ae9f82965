"""Stored vectors: what is in them, that they are the model's, and whose the output is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from servers import rclone_server, use
from small_set import NAMES, make_bundle, write_list

import kinsight
from kinsight.data import vectors
from kinsight.errors import DataError, SpecError, StorageError
from kinsight.evaluation import load_embeddings


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SHARD_ROWS", 8)


def embed(output: object, overwrite: bool = False, **spec: object) -> str:
    return kinsight.embed({"output": str(output), "workers": 0, **spec}, overwrite=overwrite)


def test_parquet_shards_hold_ids_labels_addresses_and_vectors(pictures: Path, bundle: Path, tmp_path: Path):
    embed(tmp_path / "out", bundle=str(bundle), data={"path": str(pictures / "names.txt")})
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["embeddings.json", "events.jsonl", *(f"part-{n:05d}.parquet" for n in range(4)), "spec.yaml"]
    tables = [pq.read_table(tmp_path / "out" / f"part-{n:05d}.parquet") for n in range(4)]
    assert [len(table) for table in tables] == [8, 8, 8, 6]
    assert [row for table in tables for row in table["id"].to_pylist()] == list(range(30))
    found = load_embeddings(tmp_path / "out")
    assert found.uri_N.to_pylist() == [str(pictures / f"{c}/{n}.png") for c in range(6) for n in range(5)]
    assert [found.class_names[label] for label in found.label_N.tolist()] == [
        NAMES[c] for c in range(6) for _ in range(5)
    ]
    np.testing.assert_allclose(found.vector_ND.norm(dim=1), 1, atol=1e-6)
    header = found.header
    assert (header["count"], header["dim"], header["normalized"], header["broken_images"]) == (30, 12, True, [])
    assert header["model_hash"] == kinsight.load(bundle).content_hash
    assert header["spec"]["bundle"] == str(bundle)


def test_npy_holds_the_same_and_numpy_reads_it(pictures: Path, bundle: Path, tmp_path: Path):
    spec = {"bundle": str(bundle), "data": {"path": str(pictures / "integers.txt")}}
    embed(tmp_path / "a", **spec)
    embed(tmp_path / "b", format="npy", **spec)
    assert {path.name for path in (tmp_path / "b").iterdir()} == {
        "embeddings.json", "events.jsonl", "labels.npy", "spec.yaml", "uris.txt", "vectors.npy"
    }  # fmt: skip
    first, second = load_embeddings(tmp_path / "a"), load_embeddings(tmp_path / "b")
    assert np.array_equal(np.load(tmp_path / "b/vectors.npy"), first.vector_ND.numpy())
    assert np.load(tmp_path / "b/labels.npy").tolist() == first.label_N.tolist() == second.label_N.tolist()
    assert first.uri_N.to_pylist() == second.uri_N.to_pylist()


@pytest.mark.parametrize("format_", ["parquet", "npy"])
def test_evaluating_what_is_stored_equals_evaluating_the_images(
    format_: str, pictures: Path, bundle: Path, tmp_path: Path
):
    data = {"path": str(pictures / "names.txt")}
    embed(tmp_path / "stored", format=format_, normalize=False, bundle=str(bundle), data=data)
    common = {"bootstrap": 10, "workers": 0}
    direct = kinsight.evaluate({"output": str(tmp_path / "a"), "bundle": str(bundle), "data": data, **common})
    later = kinsight.evaluate({"output": str(tmp_path / "b"), "embeddings": str(tmp_path / "stored"), **common})
    assert direct.metrics == later.metrics
    for name in ("per_class.csv", "retrieval.png"):
        first, second = ((tmp_path / side / name).read_bytes() for side in "ab")
        assert name != "per_class.csv" or first == second
        assert name != "retrieval.png" or len(second) > 10_000


def test_vectors_are_those_of_the_loaded_model(pictures: Path, bundle: Path, tmp_path: Path):
    embed(tmp_path / "out", bundle=str(bundle), data={"path": str(pictures / "integers.txt")}, batch_size=8)
    found = load_embeddings(tmp_path / "out")
    again = kinsight.load(bundle).embed(found.uri_N.to_pylist(), batch_size=8)
    assert np.array_equal(again, found.vector_ND.numpy())
    whole = kinsight.load(bundle).embed(found.uri_N.to_pylist())
    np.testing.assert_allclose(whole, again, atol=0.02), "another batch may round elsewhere, no more"


def test_workers_change_nothing(pictures: Path, bundle: Path, tmp_path: Path):
    spec = {"bundle": str(bundle), "data": {"path": str(pictures), "format": "folder"}}
    embed(tmp_path / "a", **spec)
    kinsight.embed({"output": str(tmp_path / "b"), "workers": 2, **spec})
    first, second = load_embeddings(tmp_path / "a"), load_embeddings(tmp_path / "b")
    assert np.array_equal(first.vector_ND, second.vector_ND) and first.uri_N == second.uri_N


def test_row_ids_are_the_sources_when_images_are_broken(pictures: Path, bundle: Path, tmp_path: Path):
    """Broken ones inside a shard, a whole shard of them, and one at the end."""
    broken = {3, *range(8, 16), 21}
    lines: list[tuple[str, object]] = []
    for row in range(22):
        image = tmp_path / f"{row}.png"
        if row in broken:
            image.write_bytes(b"" if row % 2 else b"text")
        else:
            shutil.copy(pictures / f"{row % 6}/0.png", image)
        lines.append((image.name, f"class{row}"))
    write_list(tmp_path / "list.txt", lines)
    spec = {"bundle": str(bundle), "data": {"path": str(tmp_path / "list.txt")}}
    embed(tmp_path / "out", max_broken=0.5, **spec)
    tables = [pq.read_table(tmp_path / "out" / f"part-{n:05d}.parquet") for n in range(3)]
    ids = [row for table in tables for row in table["id"].to_pylist()]
    assert ids == [row for row in range(22) if row not in broken] and len(tables[1]) == 0
    found = load_embeddings(tmp_path / "out")
    assert [found.class_names[label] for label in found.label_N.tolist()] == [f"class{row}" for row in ids]
    assert [Path(uri).name for uri in found.uri_N.to_pylist()] == [f"{row}.png" for row in ids]
    assert {entry["image"] for entry in found.header["broken_images"]} == {str(tmp_path / f"{r}.png") for r in broken}
    assert (found.header["count"], found.header["images"]) == (12, 22)
    with pytest.raises(DataError, match=r"images cannot be used"):
        embed(tmp_path / "strict", max_broken=0.4, **spec)


def test_one_broken_image_in_the_last_small_shard_is_no_reason_to_stop(pictures: Path, bundle: Path, tmp_path: Path):
    """The limit is a share of all images, not of a shard."""
    lines: list[tuple[str, object]] = [(str(pictures / f"{row % 6}/1.png"), row % 6) for row in range(24)]
    (tmp_path / "bad.png").write_bytes(b"x")
    write_list(tmp_path / "list.txt", [*lines, (str(tmp_path / "bad.png"), 0)])
    spec = {"bundle": str(bundle), "data": {"path": str(tmp_path / "list.txt")}}
    with pytest.raises(DataError, match="1 of 25 images cannot be used"):
        embed(tmp_path / "strict", max_broken=0.03, **spec)
    embed(tmp_path / "out", max_broken=0.05, **spec)
    assert load_embeddings(tmp_path / "out").header["count"] == 24
    with pytest.raises(DataError, match="1 of 25 images cannot be used"):
        embed(tmp_path / "strict", max_broken=0.03, **spec)  # going on does not get round the limit


def test_unlabelled_images(pictures: Path, bundle: Path, tmp_path: Path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for label in range(3):
        shutil.copy(pictures / f"{label}/0.png", flat / f"{label}.png")
    (tmp_path / "bare.txt").write_text("flat/0.png\nflat/1.png\nflat/2.png\n")
    embed(tmp_path / "a", bundle=str(bundle), data={"path": str(flat), "format": "folder"})
    embed(tmp_path / "b", bundle=str(bundle), data={"path": str(tmp_path / "bare.txt")}, format="npy")
    first, second = load_embeddings(tmp_path / "a"), load_embeddings(tmp_path / "b")
    assert first.label_N.tolist() == second.label_N.tolist() == [-1, -1, -1] and first.class_names == ()
    assert np.array_equal(first.vector_ND, second.vector_ND) and first.uri_N == second.uri_N
    with pytest.raises(DataError, match="3 of 3 vectors have no single label"):
        kinsight.evaluate({"output": str(tmp_path / "c"), "embeddings": str(tmp_path / "a")})


def test_several_labels_are_kept(pictures: Path, bundle: Path, tmp_path: Path):
    write_list(tmp_path / "list.txt", [(str(pictures / "0/0.png"), "4 2"), (str(pictures / "0/1.png"), "2")])
    embed(tmp_path / "out", bundle=str(bundle), data={"path": str(tmp_path / "list.txt")})
    assert pq.read_table(tmp_path / "out/part-00000.parquet")["labels"].to_pylist() == [[1, 0], [0]]
    assert load_embeddings(tmp_path / "out").label_N.tolist() == [-1, 0]


def test_a_backbone_without_training(pictures: Path, tmp_path: Path):
    model = {"backbone": "conv4", "pretrained": None, "pooling": {"kind": "gem"}}
    spec = {"model": model, "image": {"image_size": 32}, "data": {"path": str(pictures / "integers.txt")}}
    embed(tmp_path / "a", **spec)
    embed(tmp_path / "b", **spec)
    first, second = load_embeddings(tmp_path / "a"), load_embeddings(tmp_path / "b")
    assert np.array_equal(first.vector_ND, second.vector_ND) and first.header["model"] == "conv4 (random)"


def test_a_finished_output_is_left_alone_and_replaced_only_when_asked(pictures: Path, bundle: Path, tmp_path: Path):
    spec = {"bundle": str(bundle), "data": {"path": str(pictures / "integers.txt")}}
    embed(tmp_path / "out", **spec)
    stamp = (tmp_path / "out/part-00001.parquet").stat().st_mtime_ns
    with pytest.raises(SpecError, match=r"holds finished embeddings(?s:.*)--overwrite"):
        embed(tmp_path / "out", **spec)
    with pytest.raises(SpecError, match=r"other settings: normalize was True, now False\n(?s:.*)--overwrite"):
        embed(tmp_path / "out", normalize=False, **spec)
    assert (tmp_path / "out/part-00001.parquet").stat().st_mtime_ns == stamp
    (tmp_path / "out/my-part-list.txt").write_text("mine")
    few = write_list(tmp_path / "few.txt", [(str(pictures / f"{c}/0.png"), c) for c in range(3)])
    embed(tmp_path / "out", overwrite=True, bundle=str(bundle), data={"path": str(few)}, format="npy")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "my-part-list.txt" in names and not any(name.endswith(".parquet") for name in names)
    assert load_embeddings(tmp_path / "out").header["count"] == 3


def test_overwriting_waits_until_the_new_job_can_begin(pictures: Path, bundle: Path, tmp_path: Path):
    spec = {"bundle": str(bundle), "data": {"path": str(pictures / "integers.txt")}}
    embed(tmp_path / "out", **spec)
    with pytest.raises(StorageError, match="no model bundle"):
        embed(tmp_path / "out", overwrite=True, **{**spec, "bundle": str(tmp_path / "nowhere")})
    with pytest.raises(DataError, match="no such list"):
        embed(tmp_path / "out", overwrite=True, **{**spec, "data": {"path": str(tmp_path / "nowhere.txt")}})
    assert load_embeddings(tmp_path / "out").header["count"] == 30


def test_embeddings_saved_by_an_evaluation_can_be_overwritten(pictures: Path, bundle: Path, tmp_path: Path):
    spec = {"bundle": str(bundle), "data": {"path": str(pictures / "integers.txt")}, "workers": 0}
    kinsight.evaluate({"output": str(tmp_path), "save_embeddings": True, "bootstrap": 0, **spec})
    with pytest.raises(SpecError, match="holds finished embeddings"):
        embed(tmp_path / "embeddings", **spec)
    embed(tmp_path / "embeddings", overwrite=True, **spec)
    assert load_embeddings(tmp_path / "embeddings").header["normalized"] is True


def test_a_run_folder_is_never_an_output(pictures: Path, bundle: Path, tmp_path: Path):
    (tmp_path / "spec.yaml").write_text("job: train\noutput: here\n")
    spec = {"bundle": str(bundle), "data": {"path": str(pictures / "integers.txt")}}
    for overwrite in (False, True):
        with pytest.raises(SpecError, match="something else than embeddings"):
            embed(tmp_path, overwrite=overwrite, **spec)
    assert (tmp_path / "spec.yaml").read_text().startswith("job: train")


def test_images_bundle_and_output_on_object_storage(
    pictures: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    with rclone_server(tmp_path / "server") as server:
        place = use(server, "s3", monkeypatch, request)
        folder = tmp_path / "server" / server.bucket / place.root.path
        shutil.copytree(pictures, folder / "pictures")
        shutil.copytree(bundle, folder / "model")
        spec = {"bundle": f"{place.root}/model", "data": {"path": f"{place.root}/pictures/integers.txt"}}
        for format_ in ("parquet", "npy"):
            output = f"{place.root}/{format_}"
            embed(output, format=format_, **spec)
            found = load_embeddings(output)
            assert found.header["count"] == 30 and found.uri_N[0].as_py() == f"{place.root}/pictures/0/0.png"
            left = {path.name for path in (folder / format_).iterdir()}
            assert not any(name.startswith(".") for name in left), "nothing of the work in progress"
            with pytest.raises(SpecError, match="holds finished embeddings"):
                embed(output, format=format_, **spec)
            embed(output, overwrite=True, format=format_, **spec)
        result = kinsight.evaluate({"output": f"{place.root}/result", "embeddings": output, "bootstrap": 0})
        assert json.loads((folder / "result/metrics.json").read_text()) == result.metrics
        assert (folder / "result/retrieval.png").exists()
        embed(tmp_path / "local", bundle=str(bundle), data={"path": str(pictures / "integers.txt")})
        assert np.array_equal(load_embeddings(tmp_path / "local").vector_ND, found.vector_ND)


def test_another_model_at_the_same_address_is_noticed(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A job stopped after its first shard; then somebody retrains into the same folder."""
    model = make_bundle(tmp_path / "model", seed=0)
    spec = {"bundle": str(model), "data": {"path": str(pictures / "integers.txt")}}
    written = []

    def stop(*args: object) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(write(*args))  # type: ignore[arg-type]

    write = vectors.write_shard
    monkeypatch.setattr(vectors, "write_shard", stop)
    with pytest.raises(Exception, match="8 vectors are stored"):
        embed(tmp_path / "out", **spec)
    monkeypatch.setattr(vectors, "write_shard", write)
    make_bundle(tmp_path / "model", seed=1)
    with pytest.raises(SpecError, match="begun with another model"):
        embed(tmp_path / "out", **spec)
    make_bundle(tmp_path / "model", seed=0)
    embed(tmp_path / "out", **spec)
    assert load_embeddings(tmp_path / "out").header["count"] == 30


def test_one_pixel_and_large_images_among_the_others(bundle: Path, tmp_path: Path):
    for name, size in (("dot.png", (1, 1)), ("wide.png", (900, 3)), ("tall.jpg", (5, 700))):
        Image.new("RGB", size, (200, 30, 90)).save(tmp_path / name)
    embed(tmp_path / "out", bundle=str(bundle), data={"path": str(tmp_path), "format": "folder"})
    assert load_embeddings(tmp_path / "out").header["count"] == 3
