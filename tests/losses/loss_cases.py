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
    "arcmargin": lambda: losses.ArcMargin(CLASSES, DIM),
    "arcmargin-wide": lambda: losses.ArcMargin(CLASSES, DIM, margin_rad=1.4, scale=8),
    "arcmargin-easy": lambda: losses.ArcMargin(CLASSES, DIM, margin_rad=0.5, scale=8, easy_margin=True),
    "proxy-nca": lambda: losses.ProxyNCA(CLASSES, DIM),
    "soft-triple": lambda: losses.SoftTriple(CLASSES, DIM, centres=4, tau=0.7),
    "sub-center-arcface": lambda: losses.SubCenterArcFace(CLASSES, DIM, scale=8),
    "adaface": lambda: followed(losses.AdaFace(CLASSES, DIM, scale=8)),
    "magface": lambda: losses.MagFace(CLASSES, DIM, l_a=3, u_a=6, scale=8, lambda_g=5),
}
UNIT = {
    "normalized-softmax",
    "am-softmax",
    "cosface",
    "arcface",
    "arcface-wide",
    "arcmargin",
    "arcmargin-wide",
    "arcmargin-easy",
    "proxy-nca",
    "soft-triple",
    "sub-center-arcface",
    "adaface",
    "magface",
}


def followed(head: losses.AdaFace) -> losses.AdaFace:
    """As after a training on lengths about 4: no longer moving."""
    head.length_mean.fill_(4.0)
    head.length_deviation.fill_(0.6)
    return head.eval()


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
    """The first row of each class is its class weights; heads with several centres have more of them."""
    each = len(rows) // CLASSES
    logits = [_class_logit(name, x, rows[j * each : (j + 1) * each], own=j == label) + bias[j] for j in range(CLASSES)]
    total = math.log(sum(math.exp(logit - max(logits)) for logit in logits)) + max(logits)
    surprise = [total - logit for logit in logits]
    if name == "smoothed-cross-entropy":
        others = sum(s for j, s in enumerate(surprise) if j != label) / (CLASSES - 1)
        return 0.9 * surprise[label] + 0.1 * others
    if name == "soft-triple":
        return surprise[label] + 0.7 * _spread(rows, each)
    if name == "magface":
        a = min(max(math.hypot(*x), 3), 6)
        return surprise[label] + 5 * (1 / a + a / 36)
    return surprise[label]


def _cos(x: Floats, y: Floats) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True)) / (math.hypot(*x) * math.hypot(*y))


def _spread(rows: list[Floats], each: int) -> float:
    pairs = [
        math.sqrt(2 - 2 * _cos(rows[j * each + a], rows[j * each + b]) + 1e-5)
        for j in range(CLASSES)
        for a in range(each)
        for b in range(a + 1, each)
    ]
    return sum(pairs) / (CLASSES * each * (each - 1))


def _class_logit(name: str, x: Floats, centres: list[Floats], *, own: bool) -> float:
    cos = [_cos(x, row) for row in centres]
    if name == "soft-triple":
        weights = [math.exp(c / 0.1) for c in cos]
        return 20 * (sum(w * c for w, c in zip(weights, cos, strict=True)) / sum(weights) - 0.01 * own)
    if name == "sub-center-arcface":
        return 8 * _arc(math.acos(max(cos)), 28.6 * own)
    row = centres[0]
    return _logit(name, math.hypot(*x), math.hypot(*row), sum(a * b for a, b in zip(x, row, strict=True)), own=own)


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
        case "arcmargin":
            return 80 * (_paddle(theta, 0.15) if own else math.cos(theta))
        case "arcmargin-wide":
            return 8 * (_paddle(theta, 1.4) if own else math.cos(theta))
        case "arcmargin-easy":
            return 8 * (_paddle(theta, 0.5) if own and math.cos(theta) > 0 else math.cos(theta))
        case "proxy-nca":
            return -9 * (1 + 1 - 2 * math.cos(theta))
        case "adaface":
            z = min(max((min(max(length_x, 1e-3), 100) - 4) / (0.6 + 1e-3) * 0.333, -1), 1)
            shifted = min(max(theta - 0.4 * z, 0), math.pi)
            return 8 * (math.cos(shifted) - (0.4 + 0.4 * z) if own else math.cos(theta))
        case "magface":
            a = min(max(length_x, 3), 6)
            return 8 * _arc(theta, own * math.degrees(0.45 + (0.8 - 0.45) * (a - 3) / (6 - 3)))
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


def _paddle(theta: float, m: float) -> float:
    c = math.cos(theta)
    if c > math.cos(math.pi - m):
        return c * math.cos(m) - math.sqrt(1 - c * c + 1e-6) * math.sin(m)
    return c - m * math.sin(math.pi - m)


def _psi(theta: float, m: int) -> float:
    k = math.floor(m * theta / math.pi)
    return (-1) ** k * math.cos(m * theta) - 2 * k
