"""Every head, small, and a plain-Python recomputation of its loss in float64."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kinsight import losses

CLASSES, DIM, BATCH = 5, 6, 9
Floats = list[float]

HEADS: dict[str, Callable[[], losses.ClassHead]] = {
    "softmax": lambda: losses.Softmax(CLASSES, DIM),
    "normalized-softmax": lambda: losses.NormalizedSoftmax(CLASSES, DIM),
    "am-softmax": lambda: losses.AMSoftmax(CLASSES, DIM),
    "cosface": lambda: losses.CosFace(CLASSES, DIM),
    "arcface": lambda: losses.ArcFace(CLASSES, DIM),
    "arcface-wide": lambda: losses.ArcFace(CLASSES, DIM, margin_deg=80, scale=8),
    "large-margin-softmax": lambda: losses.LargeMarginSoftmax(CLASSES, DIM),
    "large-margin-softmax-3": lambda: losses.LargeMarginSoftmax(CLASSES, DIM, margin=3, scale=2),
    "sphereface": lambda: losses.SphereFace(CLASSES, DIM),
    "sphereface-5": lambda: losses.SphereFace(CLASSES, DIM, margin=5, scale=0.5),
    "smoothed-cross-entropy": lambda: losses.SmoothedCrossEntropy(CLASSES, DIM),
}
UNIT = {"normalized-softmax", "am-softmax", "cosface", "arcface", "arcface-wide"}


def batch(dtype: torch.dtype = torch.float64, rows: int = BATCH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    emb_BD = torch.randn(rows, DIM, generator=generator, dtype=torch.float64) * 1.7
    return emb_BD.to(dtype), torch.randint(CLASSES, (rows,), generator=generator)


def sample_weights(rows: int = BATCH) -> Tensor:
    weight_B = torch.rand(rows, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    weight_B[1] = 0
    return weight_B


def oracle(name: str, head: losses.ClassHead, emb_BD: Tensor, label_B: Tensor) -> Floats:
    """Loss of each sample by loops over classes and dimensions."""
    bias_C = [0.0] * CLASSES if head.bias_C is None else head.bias_C.tolist()
    return [
        _sample_loss(name, x, label, head.weight_CD.tolist(), bias_C)
        for x, label in zip(emb_BD.tolist(), label_B.tolist(), strict=True)
    ]


def _sample_loss(name: str, x: Floats, label: int, rows: list[Floats], bias: Floats) -> float:
    logits = [
        _logit(name, math.hypot(*x), math.hypot(*row), sum(a * b for a, b in zip(x, row, strict=True)), own=j == label)
        + bias[j]
        for j, row in enumerate(rows)
    ]
    total = math.log(sum(math.exp(logit - max(logits)) for logit in logits)) + max(logits)
    surprise = [total - logit for logit in logits]
    if name == "smoothed-cross-entropy":
        others = sum(s for j, s in enumerate(surprise) if j != label) / (CLASSES - 1)
        return 0.9 * surprise[label] + 0.1 * others
    return surprise[label]


def _logit(name: str, length_x: float, length_w: float, product: float, *, own: bool) -> float:
    theta = math.acos(max(-1.0, min(1.0, product / (length_x * length_w))))
    match name:
        case "softmax":
            return product
        case "normalized-softmax":
            return math.cos(theta) / 0.05
        case "smoothed-cross-entropy":
            return product / length_x / 0.05
        case "am-softmax":
            return 30 * (math.cos(theta) - 0.4 * own)
        case "cosface":
            return 64 * (math.cos(theta) - 0.35 * own)
        case "arcface":
            return 64 * _arc(theta, 28.6 * own)
        case "arcface-wide":
            return 8 * _arc(theta, 80 * own)
        case "large-margin-softmax":
            return length_w * length_x * _psi(theta, 4 if own else 1)
        case "large-margin-softmax-3":
            return 2 * length_w * length_x * _psi(theta, 3 if own else 1)
        case "sphereface":
            return length_x * _psi(theta, 4 if own else 1)
        case "sphereface-5":
            return 0.5 * length_x * _psi(theta, 5 if own else 1)
        case _:
            raise AssertionError(name)


def _arc(theta: float, margin_deg: float) -> float:
    margin = math.radians(margin_deg)
    return math.cos(theta) - margin * math.sin(margin) if theta > math.pi - margin else math.cos(theta + margin)


def _psi(theta: float, m: int) -> float:
    k = math.floor(m * theta / math.pi)
    return (-1) ** k * math.cos(m * theta) - 2 * k
