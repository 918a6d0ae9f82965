"""From JPEG file to the float batch a network takes: Kinsight's loader against torchvision's usual pipeline.

The peer is what its documentation shows: `ImageFolder` with RandomResizedCrop, RandomHorizontalFlip, ToTensor and
Normalize behind a DataLoader. Our loader hands out uint8, which the model normalises on its device; here that step is
done on the CPU and counted, so both sides end with the same float32 batch. Every process uses one thread.

Ours decodes a JPEG at half, quarter or eighth scale where the crop stays at least as large as the target, so it is not
the same picture to the bit. `quality` compares both on the same files and the same crops: where nothing is reduced
they agree but for rounding; where the scale is reduced, the frequencies dropped are mostly those that the smaller
picture cannot hold, and the edges of the box move by at most half a reduced pixel.
"""

import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import hflip, resize

from kinsight import storage
from kinsight.data import ImageLoader, Records, build_sampler, read_records
from kinsight.data.crops import crop_choosers
from kinsight.data.decode import decode, reduction
from kinsight.data.jpeg import simplejpeg
from kinsight.errors import DataError
from kinsight.parallel.memory import kept_memory
from kinsight.specs.bench import BenchDecode
from kinsight.specs.data import Folder, ImageSpec, PhotoAugment
from kinsight.specs.samplers import ShuffleSampler

BATCH = 32
PREFETCH = 2  # batches each worker of either side works ahead
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENLARGED, ENLARGED_QUALITY = 200, 90  # how many images are enlarged, and JPEG quality of the copies
COMPARED = 100  # images of the quality check
PSNR_FLOOR_DB = 30.0
"""Median over the crops of what the check demands. JPEG compression itself costs about as much at usual qualities, so
a network trained on one sort of picture cannot tell it from the other."""


def run(spec: BenchDecode) -> dict[str, Any]:
    """Measure, print a table, return the figures. Raises DataError where there are no images."""
    results: dict[str, Any] = {
        "threads_per_process": 1,
        "jpeg_decoder": "Pillow" if simplejpeg is None else "simplejpeg",
        "batch": BATCH,
        "image_size": spec.image_size,
        "sets": [],
    }
    with tempfile.TemporaryDirectory(prefix="kinsight-bench-") as scratch, _one_thread():
        folders = [_unpacked(spec.images, Path(scratch))]
        if spec.enlarge_to is not None:
            folders.append(_enlarge(folders[0], Path(scratch, "enlarged"), spec.enlarge_to))
        for folder in folders:
            results["sets"].append(_measure_set(folder, spec))
    Console().print(_table(results))
    return results


def _measure_set(folder: Path, spec: BenchDecode) -> dict[str, Any]:
    records = read_records(Folder(path=str(folder)))
    with Image.open(records.uri(0)) as first:
        width, height = first.size
    return {
        "images": len(records),
        "first_size": [width, height],
        "quality": _quality(records, spec.image_size),
        "rates": [_measure(folder, records, spec, workers) for workers in spec.workers],
    }


def _measure(folder: Path, records: Records, spec: BenchDecode, workers: int) -> dict[str, Any]:
    """Images per second of both sides, taken in turns."""
    ours: list[_Speed] = []
    peer: list[_Speed] = []
    for turn in range(spec.repeats):
        ours.append(_speed(_our_batches(records, spec.image_size, workers, seed=turn), workers, spec.seconds))
        peer.append(_speed(_peer_batches(folder, spec.image_size, workers), workers, spec.seconds))
    pairs = list(zip(ours, peer, strict=True))
    return {
        "workers": workers,
        "ours_per_s": statistics.median(speed.per_s for speed in ours),
        "peer_per_s": statistics.median(speed.per_s for speed in peer),
        "ratio": statistics.median(mine.per_s / other.per_s for mine, other in pairs),
        # Time on the processor is what other work on the machine distorts least; it is known without workers only.
        "cpu_ratio": None if workers else statistics.median(other.cpu_s / mine.cpu_s for mine, other in pairs),
        "ours_cpu_ms": None if workers else 1000 * statistics.median(speed.cpu_s for speed in ours),
        "peer_cpu_ms": None if workers else 1000 * statistics.median(speed.cpu_s for speed in peer),
        "ours_all": [speed.per_s for speed in ours],
        "peer_all": [speed.per_s for speed in peer],
    }


class _Speed(NamedTuple):
    """Images per second of the clock, and this process's processor seconds per image."""

    per_s: float
    cpu_s: float


def _speed(batches: Generator[int], workers: int, seconds: float) -> _Speed:
    """Measured once the workers are busy: what was prepared before the clock started is not counted."""
    for _ in range(max(1, workers * (PREFETCH + 1))):
        next(batches)
    started, cpu_started, images = time.perf_counter(), time.process_time(), 0
    while (passed := time.perf_counter() - started) < seconds:
        images += next(batches)
    cpu = time.process_time() - cpu_started
    batches.close()  # ends its workers
    return _Speed(images / passed, cpu / images)


def _our_batches(records: Records, size: int, workers: int, *, seed: int) -> Generator[int]:
    sampler = build_sampler(ShuffleSampler(), records, batch_size=BATCH, seed=seed)
    requests = ((epoch, index_B) for epoch in itertools.count() for index_B in sampler.epoch(epoch))
    # One number per value of a pixel row: three per pixel, broadcast, would take three times as long.
    mean_row, std_row = (255 * torch.tensor(values).repeat(size) for values in (MEAN, STD))
    factor_row, offset_row = 1 / std_row, -mean_row / std_row
    loader = ImageLoader(records, ImageSpec(image_size=size), augment=PhotoAugment(), seed=seed, workers=workers)
    with kept_memory(), loader:  # as training does
        for batch in loader.batches(requests):
            rows = batch.images_BCHW.permute(0, 2, 3, 1).reshape(-1, 3 * size)
            rows.float().mul_(factor_row).add_(offset_row)
            yield len(batch)


def _peer_batches(folder: Path, size: int, workers: int) -> Generator[int]:
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    loader: DataLoader[Any] = DataLoader(
        ImageFolder(str(folder), transform),
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
    )
    while True:
        for images_BCHW, _ in loader:
            yield len(images_BCHW)


def _quality(records: Records, size: int) -> dict[str, Any]:
    """Peak signal-to-noise ratio (dB) and mean absolute difference (of 255) between both sides' crops of same files."""
    index_N = np.linspace(0, len(records) - 1, min(COMPARED, len(records))).astype(np.int64)
    choosers = crop_choosers(ImageSpec(image_size=size), PhotoAugment(), seed=1, epoch=0, index_B=index_N)
    psnr_db: list[float] = []
    difference: list[float] = []
    reduced = 0
    for index, choose in zip(index_N.tolist(), choosers, strict=True):
        data = Path(records.uri(index)).read_bytes()
        ours = decode(data, records.uri(index), choose, size=size, channels=3).permute(1, 2, 0).double().numpy()
        with Image.open(io.BytesIO(data)) as image:
            crop = choose(*image.size)
            part = image.convert("RGB").crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
        theirs = resize(part, [size, size])  # type: ignore[arg-type]  # as RandomResizedCrop does with its own box
        error = np.abs(ours - np.asarray(hflip(theirs) if crop.mirror else theirs))
        psnr_db.append(min(99.0, float(10 * np.log10(255**2 / max(1e-9, np.mean(error**2))))))
        difference.append(float(error.mean()))
        reduced += reduction(crop, size) > 1
    median = statistics.median(psnr_db)
    return {
        "images": len(psnr_db),
        "decoded_at_reduced_scale": reduced,
        "psnr_db_median": median,
        "psnr_db_min": min(psnr_db),
        "mean_abs_difference": statistics.fmean(difference),
        "psnr_db_floor": PSNR_FLOOR_DB,
        "passed": median >= PSNR_FLOOR_DB,
    }


def _unpacked(images: str, scratch: Path) -> Path:
    """A local folder of class folders."""
    path = storage.copy_in(images)
    if path.is_dir():
        return path
    storage.extract_archive(path, scratch / "images")
    return scratch / "images"


def _enlarge(source: Path, target: Path, size: list[int]) -> Path:
    """JPEG copies of some images, evenly taken, with the long side along the image's own."""
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        raise DataError("data.empty", f"{source}: no JPEG files", field="images", remedy="name a folder or zip of some")
    for path in paths[:: max(1, len(paths) // ENLARGED)][:ENLARGED]:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            wide = sorted(size, reverse=image.width > image.height)
            image.convert("RGB").resize((wide[0], wide[1]), Image.Resampling.BICUBIC).save(
                copy, "JPEG", quality=ENLARGED_QUALITY
            )
    return target


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _table(results: dict[str, Any]) -> Table:
    table = Table(
        title=f"JPEG file to float batch of {results['batch']} x 3 x {results['image_size']}^2, one thread per process"
    )
    for name in ("images", "workers", "ours /s", "peer /s", "ratio", "CPU ratio", "PSNR dB", "least"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in results["sets"]:
        quality = entry["quality"]
        for rate in entry["rates"]:
            table.add_row(
                "x".join(map(str, entry["first_size"])), str(rate["workers"]), f"{rate['ours_per_s']:,.0f}",
                f"{rate['peer_per_s']:,.0f}", f"{rate['ratio']:.2f}",
                "" if rate["cpu_ratio"] is None else f"{rate['cpu_ratio']:.2f}",
                f"{quality['psnr_db_median']:.1f}{'' if quality['passed'] else ' (!)'}",
                f"{quality['psnr_db_min']:.1f}",
            )  # fmt: skip
    table.caption = (
        f"peer: torchvision's ImageFolder; JPEG by {results['jpeg_decoder']}; "
        f"median PSNR of the same crops must reach {PSNR_FLOOR_DB:.0f} dB"
    )
    return table
