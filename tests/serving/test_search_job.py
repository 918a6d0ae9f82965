"""`kinsight search`: by images, vectors and items; as a table, JSON lines, Parquet and a page; and what it refuses."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import kinsight
from kinsight.cli import main
from kinsight.errors import DataError, SpecError
from kinsight.indexing import Index, build, delete
from kinsight.neighbors import topk


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _search(made, **settings):
    return kinsight.search({"index": str(made / "index"), **settings})


def test_images_find_themselves_and_are_judged_by_the_bundles_threshold(made, capsys):
    images = [str(made / "images" / name) for name in ("2-1.png", "5-0.png")]
    found = _search(made, images=images, bundle=str(made / "run"), k=3)
    assert found.column_names == [
        *("query", "rank", "id", "label", "similarity", "accepted", "uri"),
        *("character", "note", "common"),
    ]
    assert found["query"].to_pylist() == [images[0]] * 3 + [images[1]] * 3
    assert found["rank"].to_pylist() == [1, 2, 3] * 2
    first = found.to_pylist()[0]
    assert (first["label"], first["character"], first["note"], first["accepted"]) == ("class <2>", "C", "n1", True)
    assert first["uri"] == images[0]
    assert first["similarity"] == pytest.approx(1, abs=1e-5)
    assert [row["accepted"] for row in found.to_pylist()] == [row["similarity"] >= 0.9 for row in found.to_pylist()]
    assert "0.9000, the bundle's for a false-match rate of 0.01" in capsys.readouterr().err


def test_items_do_not_find_themselves_and_equal_the_exact_answer(made):
    index = Index.open(made / "index")
    found = _search(made, ids=["3", "20"], k=23)
    rows = torch.tensor([3, 20])
    vectors = index.vectors(np.arange(len(index)))
    similarity_QK, index_QK = topk(vectors[rows], vectors, 23, exclude=rows)
    assert found["id"].to_pylist() == index_QK.flatten().tolist()
    assert found["similarity"].to_pylist() == similarity_QK.flatten().tolist()
    assert found["query"].to_pylist()[0] == "3"
    assert found["accepted"].null_count == len(found)


def test_vectors_of_stored_embeddings_and_of_other_tools(made, tmp_path, capsys):
    stored = _search(made, vectors=str(made / "embeddings"), k=1, threshold=0.5)
    assert stored["uri"].to_pylist() == stored["query"].to_pylist()
    assert all(stored["accepted"].to_pylist())
    np.save(tmp_path / "q.npy", Index.open(made / "index").vectors([4, 9]).numpy())
    capsys.readouterr()
    bare = _search(made, vectors=str(tmp_path / "q.npy"), k=1)
    assert (bare["query"].to_pylist(), bare["id"].to_pylist()) == (["0", "1"], [4, 9])
    said = capsys.readouterr().err
    assert "do not say which model made them" in said
    assert "nothing is marked as accepted" in said


def test_folders_and_lists_and_broken_images_among_good_ones(made, tmp_path, capsys):
    for name in ("0-0.png", "1-1.png"):
        shutil.copy(made / "images" / name, tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    (tmp_path / "wanted.txt").write_text("1-1.png\nbroken.png\nabsent.png\n")
    settings = {"bundle": str(made / "run"), "k": 1}
    folder = _search(made, images=[str(tmp_path)], **settings)
    assert folder["label"].to_pylist() == ["class <0>", "class <1>"]
    assert "broken.png is left out" in capsys.readouterr().err
    listed = _search(made, images=[str(tmp_path / "0-0.png"), str(tmp_path / "wanted.txt")], **settings)
    assert [name.rpartition("/")[2] for name in listed["query"].to_pylist()] == ["0-0.png", "1-1.png"]
    said = capsys.readouterr().err
    assert "broken.png is left out" in said
    assert "absent.png is left out" in said
    with pytest.raises(DataError, match="max_broken"):
        _search(made, images=[str(tmp_path)], max_broken=0.2, **settings)
    with pytest.raises(DataError, match="1 of 1 images cannot be used"):
        _search(made, images=[str(tmp_path / "broken.png")], **settings)


def test_outputs_hold_the_same_results(made, tmp_path):
    settings = {"vectors": str(made / "embeddings"), "k": 4, "threshold": 0.9}
    expected = _search(made, **settings).to_pylist()
    for kind in ("jsonl", "parquet"):
        _search(made, format=kind, output=str(tmp_path / kind), **settings)
    assert [json.loads(line) for line in (tmp_path / "jsonl").read_text().splitlines()] == expected
    assert pq.read_table(tmp_path / "parquet").to_pylist() == expected


def test_the_page_has_pictures_and_escapes_names(made, tmp_path):
    settings = {"images": [str(made / "images")], "bundle": str(made / "run"), "k": 5}
    (tmp_path / "<img src=x onerror=alert(1)>").mkdir()
    odd = tmp_path / "<img src=x onerror=alert(1)>" / "q.png"
    shutil.copy(made / "images" / "3-3.png", odd)
    _search(made, format="page", output=str(tmp_path / "page.html"), **settings | {"images": [str(odd)]})
    page = (tmp_path / "page.html").read_text()
    assert "<img src=x" not in page
    assert "class <3>" not in page
    assert "class &lt;3&gt;" in page
    assert page.count("data:image/png;base64") == 6
    _search(made, format="page", output=str(tmp_path / "many.html"), page_queries=2, **settings)
    assert (tmp_path / "many.html").read_text().count("<section") == 2


def test_the_table_is_aligned_and_the_command_line_works(made, tmp_path, capsys):
    index, bundle, image = str(made / "index"), str(made / "run"), str(made / "images" / "2-1.png")
    assert main(["search", index, image, image, "--bundle", bundle, "--k", "2"]) == 0
    shown = capsys.readouterr().out.splitlines()
    column = shown[0].index("similarity")
    assert shown[0].split()[:6] == ["query", "rank", "similarity", "accepted", "id", "label"]
    assert shown[1].startswith(image)
    assert shown[2].startswith(" ")
    assert all(line[column:].split()[1] in ("yes", "no") for line in shown[1:] if line)
    assert main(["search", index, "--ids", "1", "2", "--k", "1", "--format", "jsonl"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["query"] for line in lines] == ["1", "2"]
    assert main(["search", index, "--ids", "99"]) == 3
    assert "did you mean 23" in capsys.readouterr().err
    assert main(["search", index]) == 2
    assert main(["search", str(tmp_path), "--ids", "1"]) == 3


def test_more_than_there_is_and_an_empty_index(made, tmp_path, capsys):
    found = _search(made, ids=["3"], k=500)
    assert len(found) == 23
    assert "the index holds 24 items" in capsys.readouterr().err
    build({"embeddings": str(made / "embeddings"), "output": str(tmp_path / "empty")})
    delete({"index": str(tmp_path / "empty"), "ids": [str(row) for row in range(24)]})
    empty = kinsight.search({"index": str(tmp_path / "empty"), "vectors": str(made / "embeddings")})
    assert (len(empty), empty.column_names[0]) == (0, "query")
    assert "the index is empty" in capsys.readouterr().err


@pytest.fixture(scope="module")
def other_bundle(tmp_path_factory):
    from kinsight.models import build_network, make_header, save_bundle
    from kinsight.specs.data import ImageSpec
    from kinsight.specs.model import ModelSpec

    folder = tmp_path_factory.mktemp("other") / "bundle"
    model = ModelSpec(backbone="conv4", pretrained=None, embedding_dim=16)
    net = build_network(model, image=ImageSpec(image_size=28, color="gray"), seed=5).eval()
    save_bundle(folder, net, make_header(net, model=model, image=ImageSpec(image_size=28, color="gray")))
    return str(folder)


def test_queries_of_another_model_are_refused(made, tmp_path, other_bundle):
    image = str(made / "images" / "2-1.png")
    for query in ({"images": [image]}, {"ids": ["3"]}):
        with pytest.raises(DataError, match="another model than"):
            _search(made, bundle=other_bundle, **query)
    data = {"path": str(made / "images"), "format": "folder"}
    emb = str(tmp_path / "emb")
    kinsight.embed({"bundle": other_bundle, "data": data, "output": emb, "workers": 0})
    with pytest.raises(DataError, match=r"made by .*other.*, the index by .*run"):
        _search(made, vectors=emb)
    np.save(tmp_path / "short.npy", np.ones((2, 15), np.float32))
    with pytest.raises(DataError, match="length 16"):
        _search(made, vectors=str(tmp_path / "short.npy"))
    np.save(tmp_path / "zero.npy", np.zeros((2, 16), np.float32))
    with pytest.raises(DataError, match="query row 0 is a zero vector"):
        _search(made, vectors=str(tmp_path / "zero.npy"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "give one of images, vectors, ids; got none"),
        ({"ids": ["1"], "vectors": "x"}, "got vectors and ids"),
        ({"images": ["x.png"]}, "bundle is needed"),
        ({"ids": ["1"], "workers": 2}, "workers have no effect"),
        ({"ids": ["1"], "fmr": 0.01}, "bundle is needed for fmr"),
        ({"ids": ["1"], "fmr": 0.01, "threshold": 0.5}, "give one of them"),
        ({"ids": ["1"], "format": "page"}, "output is needed"),
        ({"ids": ["1"], "output": "x"}, "no effect with format table"),
        ({"ids": ["1"], "page_queries": 3}, "no effect without format page"),
    ],
)
def test_settings_without_effect_are_refused(made, settings, said):
    with pytest.raises(SpecError, match=said):
        _search(made, **settings)


def test_rates_that_were_not_measured_are_refused(made):
    image = str(made / "images" / "2-1.png")
    with pytest.raises(SpecError, match="no threshold was measured for this rate"):
        _search(made, images=[image], bundle=str(made / "run"), fmr=0.0001)
    assert _search(made, images=[image], bundle=str(made / "run"), fmr=0.01, k=1)["accepted"].to_pylist() == [True]


def test_only_items_that_fit_are_found(made, capsys):
    found = _search(made, ids=["3"], k=20, where=["character=B", "character=C", "note=n1"])
    assert sorted(found["character"].to_pylist()) == ["B", "C"]
    assert "holds 2 items that fit where" in capsys.readouterr().err
    assert len(_search(made, ids=["3"], where=["character=Z"])) == 0
    assert "no item fits where" in capsys.readouterr().err
    with pytest.raises(SpecError, match="no column"):
        _search(made, ids=["3"], where=["colour=red"])
    with pytest.raises(SpecError, match="no effect on an index of kind"):
        _search(made, ids=["3"], recall=0.9)
