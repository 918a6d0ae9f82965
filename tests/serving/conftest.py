"""A small bundle and an index of it, served for real."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

import kinsight
from kinsight.indexing import build
from kinsight.models import ThresholdPoint, Thresholds, write_thresholds
from kinsight.serving.serve import in_background
from kinsight.specs.serve import ServeSpec

CLASSES, EACH = 6, 4


def drawing(label: int, number: int) -> Image.Image:
    """A square of the class's place and size, moved a little."""
    image = Image.new("L", (28, 28), 240)
    left, side = 2 + 3 * label, 4 + label
    ImageDraw.Draw(image).rectangle((left, 4 + number, left + side, 4 + number + side), fill=20 + 5 * number)
    return image


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/, list.csv, run/, embeddings/, index/."""
    folder = tmp_path_factory.mktemp("served")
    lines = ["image,label,character,note,common"]
    (folder / "images").mkdir()
    for label in range(CLASSES):
        for number in range(EACH):
            drawing(label, number).save(folder / "images" / f"{label}-{number}.png")
            lines.append(
                f"images/{label}-{number}.png,class <{label}>,{chr(65 + label)},n{number},{'yes' if label == 2 else ''}"
            )
    (folder / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    data = {"path": str(folder / "list.csv"), "format": "csv"}
    threads = torch.get_num_threads()
    kinsight.train(
        {
            "output": str(folder / "run"),
            "data": {"train": data, "image_size": 28, "color": "gray", "crop": 1.0, "workers": 0},
            "model": {"backbone": "conv4", "pretrained": None, "embedding_dim": 16, "pooling": {"kind": "flat"}},
            "batch": {"size": 24},
            "epochs": 2,
        }
    )
    torch.set_num_threads(threads)
    bundle = str(folder / "run")
    kinsight.embed({"bundle": bundle, "data": data, "output": str(folder / "embeddings"), "workers": 0})
    build({"embeddings": str(folder / "embeddings"), "output": str(folder / "index")})
    point = ThresholdPoint(fmr=0.01, threshold=0.9, fmr_low=0, fmr_high=0.02, tmr=0.9, tmr_low=0.8, tmr_high=1)
    write_thresholds(
        bundle,
        Thresholds(metric="cosine", confidence=0.95, classes=6, same_pairs=9, different_pairs=9, points=(point,)),
    )
    return folder


@pytest.fixture(scope="session")
def server(made: Path) -> Iterator[str]:
    """Address of a running server."""
    before = set(threading.enumerate())
    spec = ServeSpec(bundle=str(made / "run"), index=str(made / "index"), port=0, k=5, max_k=30, max_upload_mb=1)
    with in_background(spec) as address:
        yield address
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {name for name in left if name.startswith("kinsight")}
