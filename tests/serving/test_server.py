"""The server as its clients see it: right answers, clear refusals, and none of its threads in another's way."""

import http.client
import io
import json
import resource
import socket
import struct
import time
import urllib.error
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

import kinsight
from kinsight.errors import DataError, SpecError
from kinsight.indexing import build, delete
from kinsight.serving.serve import in_background, serve
from kinsight.specs.serve import ServeSpec


def post(address: str, body: bytes | dict[str, Any], kind: str = "image/png") -> tuple[int, dict[str, Any]]:
    if isinstance(body, dict):
        body, kind = json.dumps(body).encode(), "application/json"
    request = urllib.request.Request(address, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def get(address: str) -> tuple[int, bytes, dict[str, str]]:
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def test_an_image_finds_itself_and_its_class(server: str, made: Path):
    data = (made / "images/3-1.png").read_bytes()
    status, answer = post(f"{server}/v1/search?k=4&by=items", data)
    assert status == 200
    best = answer["results"][0]
    assert (best["label"], best["character"], best["note"], best["rank"]) == ("class <3>", "D", "n1", 1)
    assert best["similarity"] == pytest.approx(1, abs=1e-3)
    assert best["accepted"] is True and answer["accepted"] is True
    assert len(answer["results"]) == 4
    similarities = [item["similarity"] for item in answer["results"]]
    assert similarities == sorted(similarities, reverse=True)
    assert [item["accepted"] for item in answer["results"]] == [value >= 0.9 for value in similarities]
    assert set(answer["took_ms"]) == {"decode", "embed", "search", "total"}


def test_the_vector_is_the_one_embed_gives(server: str, made: Path):
    path = made / "images/2-2.png"
    _, answer = post(f"{server}/v1/embed", path.read_bytes())
    np.testing.assert_allclose(answer["vector"], kinsight.load(made / "run").embed([path])[0], atol=2e-2)
    _, by_vector = post(f"{server}/v1/search", {"vector": answer["vector"]})
    assert by_vector["results"][0]["uri"].endswith("images/2-2.png")
    assert len(by_vector["results"]) == 5


def test_searching_on_from_an_item_leaves_it_out(server: str):
    for query in ({"row": 7}, {"id": 7}):
        status, answer = post(f"{server}/v1/search?k=30&by=items", query)
        assert status == 200
        assert sorted(item["row"] for item in answer["results"]) == [row for row in range(24) if row != 7]


def test_pictures_of_items(server: str):
    status, data, headers = get(f"{server}/v1/items/5/picture?side=100")
    assert status == 200 and headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(data)).size == (28, 28)
    assert get(f"{server}/v1/items/24/picture")[0] == 404
    assert get(f"{server}/v1/items/-1/picture")[0] == 404


def _bomb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 422, "the file is empty"),
        (b"this is text", 422, "none of the known formats"),
        (_bomb(), 413, "million pixels, up to"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), 422, "not a usable image"),
        (bytes(1_000_001), 413, "larger than 1 MB"),
        ({"vector": [1, 2]}, 400, "expected 16 finite numbers"),
        ({"vector": [0] * 16}, 400, "not all zero"),
        ({"vector": ["x"] * 16}, 400, "expected 16 finite numbers"),
        ({"vector": [[1] * 16, [1]]}, 400, "expected 16 finite numbers"),
        ({"row": 99}, 404, "rows 0 to 23"),
        ({"row": "3"}, 404, "rows 0 to 23"),
        ({"row": True}, 404, "rows 0 to 23"),
        (b'{"vector": ' + b"[" * 100_000, 400, "not JSON"),
        ({"id": 99}, 404, "99"),
        ({"id": [1]}, 400, "expected text or a whole number"),
        ({"id": 1, "row": 1}, 400, "expected one of vector, row, id"),
        ({}, 400, "expected one of vector, row, id"),
        ({"id": 1, "k": 5}, 400, "and nothing else"),
    ],
    ids=map(str, range(18)),
)
def test_bad_queries_are_told_what_is_wrong(server: str, body: bytes | dict[str, Any], status: int, says: str):
    kind = "application/json" if isinstance(body, bytes) and body.startswith(b"{") else "image/png"
    found, answer = post(f"{server}/v1/search", body, kind)
    assert (found, says in f"{answer['message']}") == (status, True), answer
    assert answer["code"]
    assert post(f"{server}/v1/search", {"row": 0})[0] == 200  # still there


@pytest.mark.parametrize(("k", "status"), [("0", 400), ("31", 400), ("30", 200), ("x", 400)])
def test_neighbours_asked_for(server: str, k: str, status: int):
    found, answer = post(f"{server}/v1/search?k={k}", {"row": 0})
    assert found == status
    assert status == 200 or {"code", "message", "field", "remedy"} <= set(answer)


def test_a_form_is_no_image(server: str):
    status, answer = post(f"{server}/v1/search", b"--x\r\n", "multipart/form-data; boundary=x")
    assert status == 415 and "--data-binary" in answer["remedy"]


def test_other_addresses_are_refused_in_the_same_form(server: str):
    status, body, _ = get(f"{server}/v1/nothing")
    assert status == 404 and json.loads(body)["field"] == "/v1/nothing"


def test_a_small_file_of_many_pixels_is_refused_before_it_is_decoded(server: str):
    stream = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(stream, "PNG")
    assert len(stream.getvalue()) < 20_000
    before = _peak_mb()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(f"{server}/v1/search", stream.getvalue()), range(6)))
    assert {status for status, _ in answers} == {413}
    assert "100 million pixels, up to 64" in answers[0][1]["message"]
    assert _peak_mb() - before < 50


def test_pages_of_other_sites_cannot_search(server: str, made: Path):
    data = (made / "images/0-0.png").read_bytes()
    headers = {"Content-Type": "image/png", "Sec-Fetch-Site": "cross-site"}
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(f"{server}/v1/search", data, headers), timeout=5)
    assert caught.value.code == 403
    caught.value.close()


def test_a_new_version_of_the_index_is_served_and_a_wrong_one_is_not(made: Path, tmp_path: Path):
    place, data = tmp_path / "index", {"path": str(made / "list.csv"), "format": "csv"}
    build({"embeddings": str(made / "embeddings"), "output": str(place)})
    spec = ServeSpec(bundle=str(made / "run"), index=str(place), port=0, k=24, reload_seconds=0.1)

    def until(version: int) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while (found := json.loads(get(f"{address}/v1/info")[1])["index"])["version"] != version:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    with in_background(spec) as address:
        first = until(1)["version"]
        delete({"index": str(place), "ids": ["3"]})
        assert until(first + 1)["items"] == 23
        assert 3 not in [item["id"] for item in post(f"{address}/v1/search", {"row": 0})[1]["results"]]
        for answer in (post(f"{address}/v1/search", {"row": 3}), post(f"{address}/v1/search", {"id": 3})):
            assert answer[0] == 404
        assert get(f"{address}/v1/items/3/picture")[0] == 404
        assert get(f"{address}/v1/items/4/picture?version=1")[0] == 404
        model = {"backbone": "conv4", "pretrained": None}
        other = {"model": model, "image": {"image_size": 28, "color": "gray"}, "data": data, "workers": 0}
        kinsight.embed(other | {"output": str(tmp_path / "other")})
        build({"embeddings": str(tmp_path / "other"), "output": str(place)}, overwrite=True)
        time.sleep(0.5)
        assert until(first + 1)["items"] == 23
        assert post(f"{address}/v1/search", (made / "images/0-0.png").read_bytes())[0] == 200


@pytest.mark.parametrize("megabytes", [2, 100])
def test_large_bodies_are_refused_with_the_reason_and_not_kept(server: str, megabytes: int):
    place = urlsplit(server)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=20)
    for chunked in (False, True):
        body = (bytes(1 << 20) for _ in range(megabytes))
        length = {} if chunked else {"Content-Length": str(megabytes << 20)}
        before = _peak_mb()
        connection.request("POST", "/v1/search", body, {"Content-Type": "image/png", **length}, encode_chunked=chunked)
        answer = connection.getresponse()
        assert answer.status == 413
        assert "larger than 1 MB" in json.loads(answer.read())["message"]
        assert _peak_mb() - before < 50
    connection.close()


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # the server runs in this process


def test_many_at_once_get_their_own_answers(server: str, made: Path):
    paths = sorted((made / "images").glob("*.png")) * 4
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda path: post(f"{server}/v1/search?k=1", path.read_bytes()), paths))
    for path, (status, answer) in zip(paths, answers, strict=True):
        assert status == 200
        assert answer["results"][0]["uri"].endswith(path.name), (path, answer)


def test_the_page_is_all_its_own(server: str):
    status, page, headers = get(f"{server}/")
    assert status == 200 and b"<canvas" in page
    assert "default-src 'self'" in headers["content-security-policy"]
    for name in ("search.js", "search.css"):
        status, text, _ = get(f"{server}/static/{name}")
        assert status == 200
        assert b"http://" not in text and b"https://" not in text and b"innerHTML" not in text
    assert get(f"{server}/static/../engine.py")[0] == 404
    assert get(f"{server}/static/serve.py")[0] == 404
    info = json.loads(get(f"{server}/v1/info")[1])
    assert (
        info["index"]["items"] == 24
        and info["threshold"]["value"] == 0.9
        and info["threshold"]["chance_matches"] == pytest.approx(0.24)
    )


def test_other_names_for_this_machine_are_refused(server: str):
    request = urllib.request.Request(f"{server}/v1/info", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=5)
    assert caught.value.code == 400
    caught.value.close()


def test_a_port_in_use_is_told_before_anything_is_loaded(made: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SpecError, match=r"port=\d+: cannot listen there"):
            serve({"bundle": "nowhere", "port": taken.getsockname()[1]})


def test_an_index_of_another_model_is_refused(made: Path, tmp_path: Path):
    data = {"path": str(made / "list.csv"), "format": "csv"}
    model = {"backbone": "conv4", "pretrained": None}
    image = {"image_size": 28, "color": "gray"}
    settings = {"data": {"train": data} | image, "model": model | {"embedding_dim": 16}, "batch": {"size": 24}}
    kinsight.train({"output": str(tmp_path / "other"), "epochs": 1} | settings)
    spec = ServeSpec(bundle=str(tmp_path / "other"), index=str(made / "index"), port=0)
    with pytest.raises(DataError, match="another model"), in_background(spec):
        pass


def test_without_an_index_it_embeds_and_says_what_is_missing(made: Path):
    with in_background(ServeSpec(bundle=str(made / "run"), port=0)) as address:
        data = (made / "images/0-0.png").read_bytes()
        assert len(post(f"{address}/v1/embed", data)[1]["vector"]) == 16
        status, answer = post(f"{address}/v1/search", data)
        assert status == 400 and "no index" in answer["message"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"fmr": 0.1, "threshold": 0.5, "index": "x"}, "give one of them"),
        ({"k": 3, "reload_seconds": 1}, "k, reload_seconds: no effect without index"),
        ({"index": "x", "k": 200, "max_k": 100}, "at most max_k"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], says: str):
    with pytest.raises(SpecError, match=says):
        serve({"bundle": "x", **settings})


def test_a_rate_that_was_not_measured_is_an_error(made: Path):
    spec = ServeSpec(bundle=str(made / "run"), index=str(made / "index"), port=0, fmr=1e-4)
    with pytest.raises(SpecError, match=r"measured: 0\.01"), in_background(spec):
        pass


def test_only_items_that_fit_are_found(server: str):
    for by, count in (("items", 4), ("classes", 1)):
        status, answer = post(f"{server}/v1/search?k=20&by={by}&where=character=B", {"row": 0})
        assert status == 200 and {item["character"] for item in answer["results"]} == {"B"}
        assert len(answer["results"]) == count
    two = post(f"{server}/v1/search?k=20&by=items&where=character=B&where=character=C&where=note=n1", {"row": 0})[1]
    assert sorted(item["character"] for item in two["results"]) == ["B", "C"]
    assert post(f"{server}/v1/search?where=character=Z", {"row": 0})[1]["results"] == []
    assert len(post(f"{server}/v1/search?k=20&by=items", {"row": 0})[1]["results"]) == 20  # the others are still there


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("where=colour=red", "no column"),
        ("where=colour", "column=value"),
        ("recall=0.9", "no effect on an index of kind"),
        ("recall=2", "less than 1"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(server: str, asked: str, says: str):
    status, answer = post(f"{server}/v1/search?{asked}", {"row": 0})
    assert (status, says in answer["message"]) == (400, True), answer
