"""Images per second: Kinsight's training as it is by default against a plain pytorch-metric-learning loop.

The peer is the loop of that library's documentation (ArcFaceLoss, an optimizer for each of network and loss) with
torchvision's transforms behind a DataLoader. Both read the same files, use the same network, batch, loss and number
of loader workers, and each measurement runs in a process of its own; the first steps are not counted.
Usage of one side: `python -m kinsight.bench.train ours|peer MODEL FOLDER SECONDS`, images per second on the last line.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from kinsight import progress
from kinsight.errors import InterruptedRun, RunError
from kinsight.specs.bench import BenchTrain
from kinsight.specs.load import of
from kinsight.specs.train import TrainSpec

WORKERS = 2
WARMUP_STEPS = 5
EMBEDDING_DIM = 128
MARGIN_DEG, SCALE = 28.6, 64.0


@dataclass(frozen=True)
class Setting:
    """What is trained: size of the images, their channels, images per step."""

    image_size: int
    color: str
    batch: int


SETTINGS = {"conv4": Setting(28, "gray", 256), "resnet18": Setting(224, "rgb", 32)}


def run(spec: BenchTrain) -> dict[str, Any]:
    """Measure, print a table, return the figures. Raises RunError if a side fails."""
    _require_peer()
    rows = []
    with tempfile.TemporaryDirectory(prefix="kinsight-bench-") as scratch:
        total = len(spec.models) * len(spec.threads) * spec.repeats * 2
        with progress.task("bench train", total, "runs") as task:
            for model in spec.models:
                folder = Path(scratch, model)
                _draw(model, folder)
                for threads in spec.threads:
                    rows.append(_measure(spec, model, folder, threads, task))
    results = {"processes": 1, "loader_workers": WORKERS, "rows": rows}
    Console().print(_table(rows))
    return results


def _require_peer() -> None:
    try:
        import pytorch_metric_learning  # noqa: F401
    except ImportError:
        raise RunError(
            "bench.peer", "pytorch-metric-learning is not installed", remedy="install it: uv sync --extra bench"
        ) from None


def _measure(spec: BenchTrain, model: str, folder: Path, threads: int, task: progress.Task) -> dict[str, Any]:
    speeds: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(spec.repeats):
        for side, found in speeds.items():
            found.append(_one(side, model, folder, threads, spec.seconds))
            task.advance(1)
    ratios = [ours / peer for ours, peer in zip(speeds["ours"], speeds["peer"], strict=True)]
    return {
        "model": model,
        "threads": threads,
        "ours_per_s": statistics.median(speeds["ours"]),
        "peer_per_s": statistics.median(speeds["peer"]),
        "ratio": statistics.median(ratios),
        "ours_all": speeds["ours"],
        "peer_all": speeds["peer"],
    }


def _one(side: str, model: str, folder: Path, threads: int, seconds: float) -> float:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "kinsight.bench.train", side, model, str(folder), str(seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RunError("bench.side", f"{side} failed on {model}: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["images_per_s"])


def _draw(model: str, folder: Path) -> None:
    """The pictures: symbols for conv4, JPEG files of 400 x 300 with the texture of photographs for resnet18."""
    if model == "conv4":
        from kinsight.demo.symbols import draw_symbols

        draw_symbols(folder, classes=400, seed=0)
        return
    rng = np.random.default_rng(0)
    for number in range(400):
        waves = sum(
            np.kron(rng.normal(size=(300 // step + 1, 400 // step + 1, 3)), np.ones((step, step, 1)))[:300, :400] * step
            for step in (4, 16, 64)
        )
        pixels = np.clip(128 + 2 * waves, 0, 255).astype(np.uint8)
        path = folder / "images" / f"{number % 20:02d}" / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)


class _Clock:
    """Counts steps from the end of the warm-up, and says when the time is over."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._steps = -WARMUP_STEPS
        self._started = 0.0
        self.per_s = 0.0

    def step(self) -> bool:
        """Called between steps; whether to stop."""
        if self._steps == 0:
            self._started = time.perf_counter()
        passed = time.perf_counter() - self._started
        if self._steps > 0:
            self.per_s = self._steps / passed
        self._steps += 1
        return self._steps > 2 and passed >= self._seconds


class _TimedStop:
    """Stands where the training loop asks, once per step, whether somebody wants it to stop."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock

    @property
    def wanted(self) -> bool:
        return self._clock.step()


def _ours(model: str, folder: Path, seconds: float) -> float:
    from kinsight.parallel.device import pick_device
    from kinsight.training.loop import fit
    from kinsight.training.record import Record
    from kinsight.training.run_folder import RunFolder
    from kinsight.training.setup import prepare

    setting, clock = SETTINGS[model], _Clock(seconds)
    with tempfile.TemporaryDirectory(prefix="kinsight-bench-") as output:
        spec = of(
            TrainSpec,
            {
                "output": output,
                "data": {
                    "train": {"format": "folder", "path": str(folder / "images")},
                    "image_size": setting.image_size,
                    "color": setting.color,
                    "workers": WORKERS,
                    "augment": {"kind": "symbol" if model == "conv4" else "photo"},
                },
                "model": {"backbone": model, "pretrained": None, "embedding_dim": EMBEDDING_DIM},
                "loss": {"kind": "arcface", "margin_deg": MARGIN_DEG, "scale": SCALE},
                "batch": {"size": setting.batch},
                "epochs": 100_000,
                "clip_norm": 1.0,
            },
        )
        run = RunFolder(spec, overwrite=True)
        prepared = prepare(spec, pick_device("auto"))
        try:
            fit(prepared, run, Record(run.path, from_step=0), _TimedStop(clock))  # type: ignore[arg-type]
        except InterruptedRun:
            return clock.per_s * setting.batch
        finally:
            prepared.loader.close()
    raise RunError("bench.too-short", "the training ended before the time was over")


def _peer(model: str, folder: Path, seconds: float) -> float:
    from pytorch_metric_learning import losses
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    from kinsight.models import build_network
    from kinsight.specs.data import ImageSpec
    from kinsight.specs.model import ModelSpec

    setting, clock = SETTINGS[model], _Clock(seconds)
    data = ImageFolder(str(folder / "images"), _transform(setting))
    loader: Any = DataLoader(data, batch_size=setting.batch, shuffle=True, num_workers=WORKERS, drop_last=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    image = ImageSpec(image_size=setting.image_size, color="gray" if setting.color == "gray" else "rgb")
    built = build_network(ModelSpec(backbone=model, pretrained=None, embedding_dim=EMBEDDING_DIM), image=image, seed=0)
    fc = torch.nn.Linear(built.layout.dim, EMBEDDING_DIM)
    # The same layers in torch's default layout, on images normalised by the transform as usual.
    network = torch.nn.Sequential(built.backbone, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), fc)
    network = network.to(device).to(memory_format=torch.contiguous_format).train()
    loss_of = losses.ArcFaceLoss(len(data.classes), EMBEDDING_DIM, margin=MARGIN_DEG, scale=int(SCALE)).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4)
    loss_optimizer = torch.optim.SGD(loss_of.parameters(), lr=0.001, momentum=0.9)
    while True:
        for images, labels in loader:
            if clock.step():
                return clock.per_s * setting.batch
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss_optimizer.zero_grad()
            loss = loss_of(network(images), labels)
            loss.backward()
            optimizer.step()
            loss_optimizer.step()


def _transform(setting: Setting) -> Any:
    from torchvision import transforms

    size = setting.image_size
    if setting.color == "gray":
        distort = transforms.RandomAffine(10, translate=(0.1, 0.1), scale=(0.85, 1.15), shear=10, fill=255)
        steps = [transforms.Grayscale(), transforms.Resize((size, size)), distort, transforms.ToTensor()]
        return transforms.Compose([*steps, transforms.Normalize([0.449], [0.226])])
    steps = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    return transforms.Compose([*steps, transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"training, images per second; 1 process, {WORKERS} loader workers, medians")
    for name in ("network", "images", "batch", "threads", "ours", "peer", "ratio"):
        table.add_column(name, justify="right")
    for row in rows:
        setting = SETTINGS[row["model"]]
        size = f"{setting.image_size} {setting.color}"
        speeds = (f"{row['ours_per_s']:,.0f}", f"{row['peer_per_s']:,.0f}", f"{row['ratio']:.2f}")
        table.add_row(row["model"], size, str(setting.batch), str(row["threads"]), *speeds)
    table.caption = "peer: the loop of pytorch-metric-learning's documentation, fp32"
    return table


if __name__ == "__main__":
    sides = {"ours": _ours, "peer": _peer}
    print(json.dumps({"images_per_s": sides[sys.argv[1]](sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]))}))
