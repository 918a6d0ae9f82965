"""A set whose queries come from elsewhere than what is searched: sketches and phone photos of clothes, clean pictures.

An embedding is trained by `kinsight train` on clean Fashion-MNIST pictures alone, each of the ten classes divided into
20 by k-means of its pixels, so that vectors tell more than the class. The base holds the vectors of the 60,000 clean
training pictures. Queries are vectors of distorted pictures by the same embedding: of the 10,000 test pictures, and of
10,000 that are in the base undistorted. Each picture is distorted once as a sketch (its edges alone) and once as a
bad photo (turned, blurred, pale or dark, noisy). Half the pictures make the log of past queries, the others the test.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from kinsight import progress
from kinsight.bench.index.truth import faiss
from kinsight.evaluation import load
from kinsight.training import train

_SIDE = 28
_CELLS = 20  # of a class
_TRAINED_ON = 20_000
_FROM_BASE = 10_000
_DIM = 64
_EPOCHS = 5


@dataclass(frozen=True)
class Crossing:
    """Unit rows."""

    base_ND: np.ndarray
    query_QD: np.ndarray
    log_PD: np.ndarray
    source: str


def make_crossing(
    train_NP: np.ndarray, label_N: np.ndarray, test_MP: np.ndarray, max_rows: int | None, folder: Path
) -> Crossing:
    """The set. train_NP, test_MP: uint8 pictures of 784 pixels. folder: keeps the model."""
    limit = max_rows or len(train_NP)
    train_NP, label_N, test_MP = train_NP[:limit], label_N[:limit], test_MP[:limit]
    _train_embedding(train_NP[:_TRAINED_ON], label_N[:_TRAINED_ON], folder)
    rng = np.random.default_rng(5)
    chosen = rng.choice(len(train_NP), min(_FROM_BASE, len(train_NP) // 2), replace=False)
    picture_MP = np.concatenate([test_MP, train_NP[chosen]])[rng.permutation(len(test_MP) + len(chosen))]
    half = len(picture_MP) // 2
    base_ND = _embed(_square(train_NP), folder)
    log_PD, query_QD = (
        torch.cat([_embed(distort(_square(part_MP), rng), folder) for distort in (sketches, photos)])
        for part_MP in (picture_MP[:half], picture_MP[half:])
    )
    shuffled_QD = query_QD[torch.from_numpy(rng.permutation(len(query_QD)))]
    source = f"clean Fashion-MNIST pictures, queried by sketches and bad photos; {_DIM} dimensions, trained here"
    return Crossing(base_ND.numpy(), shuffled_QD.numpy(), log_PD.numpy(), source)


def sketches(picture_N1HW: Tensor, rng: np.random.Generator) -> Tensor:
    """Edges as bright lines on black, as the pictures are on black; uint8 in and out. `rng` is not used."""
    kernel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    both_211HW = torch.stack([kernel, kernel.T])[:, None]
    edge_N2HW = F.conv2d(picture_N1HW.float(), both_211HW, padding=1)
    line_N1HW = edge_N2HW.square().sum(1, keepdim=True).sqrt() / 2
    return line_N1HW.clamp(0, 255).round().byte()


def photos(picture_N1HW: Tensor, rng: np.random.Generator) -> Tensor:
    """Turned up to 10 degrees, blurred, of less contrast, brighter or darker, noisy; uint8 in and out."""
    count = len(picture_N1HW)
    angle_N = torch.from_numpy(np.radians(rng.uniform(-10, 10, count))).float()
    matrix_N23 = torch.zeros(count, 2, 3)
    matrix_N23[:, 0, 0] = matrix_N23[:, 1, 1] = angle_N.cos()
    matrix_N23[:, 0, 1], matrix_N23[:, 1, 0] = -angle_N.sin(), angle_N.sin()
    grid = F.affine_grid(matrix_N23, [count, 1, _SIDE, _SIDE], align_corners=False)
    turned = F.grid_sample(picture_N1HW.float(), grid, align_corners=False)
    line_5 = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    blurred = F.conv2d(turned, (line_5[:, None] * line_5)[None, None], padding=2)
    contrast_N = torch.from_numpy(rng.uniform(0.5, 0.9, (count, 1, 1, 1))).float()
    light_N = torch.from_numpy(rng.uniform(0, 40, (count, 1, 1, 1))).float()
    noise = torch.from_numpy(rng.normal(0, 10, blurred.shape)).float()
    return (blurred * contrast_N + light_N + noise).clamp(0, 255).round().byte()


def _square(picture_NP: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture_NP, np.uint8)).view(-1, 1, _SIDE, _SIDE)


def _embed(picture_N1HW: Tensor, folder: Path) -> Tensor:
    model = load(folder / "run" / "bundle")
    with progress.task("embed", len(picture_N1HW), "pictures") as task:
        parts = []
        for part in picture_N1HW.split(2000):
            parts.append(model.vectors(part))
            task.advance(len(part))
    return torch.cat(parts)


def _train_embedding(picture_NP: np.ndarray, label_N: np.ndarray, folder: Path) -> None:
    """Goes on where it was stopped, and does nothing where it is done."""
    if (folder / "run" / "bundle" / "bundle.json").exists():
        return
    pictures = folder / "pictures"
    shutil.rmtree(pictures, ignore_errors=True)
    for label in np.unique(label_N):
        row_M = np.flatnonzero(label_N == label)
        cells = faiss.Kmeans(784, _CELLS, niter=10, seed=1, min_points_per_centroid=1)
        cells.train(picture_NP[row_M].astype(np.float32))
        cell_M = cells.index.search(picture_NP[row_M].astype(np.float32), 1)[1][:, 0]
        for row, cell in zip(row_M, cell_M, strict=True):
            path = pictures / f"{label}-{cell:02d}" / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture_NP[row].reshape(_SIDE, _SIDE)).save(path)
    train(
        {
            "output": str(folder / "run"),
            "data": {
                "train": {"format": "folder", "path": str(pictures)},
                "image_size": _SIDE,
                "color": "gray",
                "workers": 0,
                "cache": "memory",
                "augment": {"kind": "symbol"},
            },
            "model": {"backbone": "conv4", "pretrained": None, "embedding_dim": _DIM},
            "loss": {"kind": "normalized-softmax"},
            "optimizer": {"kind": "adamw", "lr": 0.003},
            "batch": {"size": 128},
            "epochs": _EPOCHS,
        }
    )
    shutil.rmtree(pictures)
