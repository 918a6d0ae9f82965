"""Evaluations of small clustered sets for the tests of reports."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from kinsight.metrics import draw_pairs, retrieval_metrics
from kinsight.models import ThresholdPoint, Thresholds
from kinsight.reports.evaluated import Evaluated

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "\u202egnp.exe",
    "</script><b>Ölpumpe",
    "鞋 子 & الحذاء",
    "a" * 300,
)


@dataclass(frozen=True)
class Set:
    """Labelled vectors with addresses."""

    vector_ND: torch.Tensor
    label_N: torch.Tensor
    uris: tuple[str, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.label_N)

    def uri(self, row: int) -> str:
        return self.uris[row]


def clusters(classes: int, each: int, *, spread: float = 0.6, dim: int = 16, seed: int = 0) -> Set:
    """Unit vectors around a centre for each class; without images. class_names: the hostile ones first."""
    generator = torch.Generator().manual_seed(seed)
    label_N = torch.arange(classes).repeat_interleave(each)
    centre_CD = torch.randn(classes, dim, generator=generator)
    noise_ND = spread * torch.randn(len(label_N), dim, generator=generator)
    vector_ND = torch.nn.functional.normalize(centre_CD[label_N] + noise_ND, dim=1)
    names = (*HOSTILE, *(f"class {number}" for number in range(classes)))[:classes]
    return Set(vector_ND, label_N, ("",) * len(label_N), names)


def with_pictures(items: Set, folder: Path) -> Set:
    """The same set with a picture for each item: its row number in dark on a colour, in files with odd names."""
    folder.mkdir(parents=True, exist_ok=True)
    uris = []
    for row in range(len(items)):
        path = folder / f"{row}<i>&'\"\u202e.png"
        image = Image.new("RGB", (40, 30), (200, 255 - row % 200, 120))
        ImageDraw.Draw(image).text((3, 3), str(row), fill=0)
        image.save(path)
        uris.append(str(path))
    return Set(items.vector_ND, items.label_N, tuple(uris), items.class_names)


def evaluation(query: Set, gallery: Set | None = None, *, pairs: bool = True) -> Evaluated:
    """Measured as evaluations measure."""
    if gallery is None:
        retrieval = retrieval_metrics(query.vector_ND, query.label_N)
    else:
        retrieval = retrieval_metrics(gallery.vector_ND, gallery.label_N, query=(query.vector_ND, query.label_N))
    drawn = draw_pairs(query.vector_ND, query.label_N, max_pairs=2000) if pairs else None
    point = ThresholdPoint(fmr=0.01, threshold=0.5, fmr_low=0.005, fmr_high=0.02, tmr=0.9, tmr_low=0.8, tmr_high=0.95)
    known = Thresholds(
        metric="cosine", confidence=0.95, classes=9, same_pairs=10, different_pairs=20, points=(point,),
        unsupported={"1e-4": "20 different pairs; 100,000 are needed"},
    )  # fmt: skip
    metrics = dict(retrieval.means) | {"recall@1.low": 0.5, "recall@1.high": 0.9, "auc": float("nan"), "eer": None}
    return Evaluated(query, gallery, metrics, {"eer": "too few <pairs>"}, retrieval, drawn, known if pairs else None)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), np.int16)
