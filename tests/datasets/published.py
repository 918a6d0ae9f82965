"""Small archives of the real layouts, and a web server that answers ranges, or breaks off."""

import gzip
import hashlib
import io
import re
import struct
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, *, side: int = 12, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert("L" if kind == "PNG" else "RGB").save(stream, kind)
    return stream.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def idx(array: np.ndarray) -> bytes:
    magic = 2051 if array.ndim == 3 else 2049
    return gzip.compress(struct.pack(f">{1 + array.ndim}i", magic, *array.shape) + array.astype(np.uint8).tobytes())


def omniglot() -> dict[str, bytes]:
    return {
        f"images_{part}.zip": zipped(
            {
                f"images_{part}/{alphabet}/character{c:02}/{c:04}_{n:02}.png": picture(100 * c + n, kind="PNG")
                for alphabet in alphabets
                for c in (1, 2)
                for n in (1, 2, 10)
            }
        )
        for part, alphabets in (("background", ("Greek", "Latin")), ("evaluation", ("Angelic",)))
    }


def cub200() -> dict[str, bytes]:
    images = [f"{c:03}.Bird_{c}/Bird_{c}_{n:04}_796{n}.jpg" for c in range(99, 103) for n in range(2)]
    files = {f"CUB_200_2011/images/{name}": picture(n) for n, name in enumerate(images)}
    files["CUB_200_2011/images.txt"] = "".join(f"{n} {name}\n" for n, name in enumerate(images, 1)).encode()
    files["CUB_200_2011/image_class_labels.txt"] = "".join(
        f"{n} {int(name[:3])}\n" for n, name in enumerate(images, 1)
    ).encode()
    files["CUB_200_2011/classes.txt"] = "".join(f"{c} {c:03}.Bird_{c}\n" for c in range(1, 201)).encode()
    files["attributes.txt"] = b"1 has_bill_shape::curved\n"
    return {"CUB_200_2011.tgz": tarred(files)}


def sop() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    root, number = "Stanford_Online_Products", 0
    for part, classes in (("train", (1, 2)), ("test", (11319, 11320))):
        lines = ["image_id class_id super_class_id path"]
        for c in classes:
            for n in range(2):
                number += 1
                path = f"bicycle_final/{c}_{n}.JPG"
                files[f"{root}/{path}"] = picture(number)
                lines.append(f"{number} {c} 1 {path}")
        files[f"{root}/Ebay_{part}.txt"] = ("\n".join(lines) + "\n").encode()
    return {"Stanford_Online_Products.zip": zipped(files)}


def inshop() -> dict[str, bytes]:
    rows = [("train", 1, 1), ("train", 1, 2), ("train", 2, 1), ("query", 3, 1), ("gallery", 3, 2), ("gallery", 4, 1)]
    paths = [f"img/WOMEN/Dresses/id_{c:08}/{n:02}_1_front.jpg" for _, c, n in rows]
    lines = [str(len(rows)), "image_name item_id evaluation_status"]
    lines += [f"{path}    id_{c:08} {part}" for path, (part, c, _) in zip(paths, rows, strict=True)]
    return {
        "img.zip": zipped({path: picture(n) for n, path in enumerate(paths)}),
        "list_eval_partition.txt": ("\n".join(lines) + "\n").encode(),
    }


def caltech101() -> dict[str, bytes]:
    names = [f"kind{n:03}" for n in range(101)] + ["BACKGROUND_Google"]
    inner = tarred({f"101_ObjectCategories/{name}/image_0001.jpg": picture(n) for n, name in enumerate(names)})
    return {"caltech-101.zip": zipped({"caltech-101/101_ObjectCategories.tar.gz": inner, "caltech-101/x.m": b"%"})}


def fashion_mnist() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {
        f"{name}-{kind}-ubyte.gz": data
        for name, count in (("train", 20), ("t10k", 10))
        for kind, data in (
            ("images-idx3", idx(rng.integers(0, 256, (count, 28, 28)))),
            ("labels-idx1", idx(np.arange(count) % 10)),
        )
    }


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class Site:
    """files: what is served. breaks: how many answers end after a third. ranges, versions: what the server can do."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.breaks = 0
        self.ranges = self.versions = True
        self.asked: list[tuple[str, str, str | None]] = []
        self.sent = 0
        self.url = ""


@contextmanager
def site(files: dict[str, bytes]) -> Iterator[Site]:
    state = Site(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            name = self.path.rpartition("/")[2].partition("?")[0]
            asked = self.headers.get("Range")
            state.asked.append((self.command, name, asked))
            data = state.files.get(name)
            if data is None:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = 0
            found = re.fullmatch(r"bytes=(\d+)-", asked or "")
            current = self.headers.get("If-Range") in (None, f'"{md5(data)}"')
            if found and state.ranges and current:
                start = int(found[1])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            if state.versions:
                self.send_header("ETag", f'"{md5(data)}"')
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if not body:
                return
            part = data[start:]
            if state.breaks > 0:
                state.breaks -= 1
                part = part[: max(1, len(part) // 3)]
                self.close_connection = True
            state.sent += len(part)
            self.wfile.write(part)
            self.wfile.flush()

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/sets"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def as_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder
