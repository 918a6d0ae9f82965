"""`kinsight doctor`: what this machine offers, what is missing, and what to do about it."""

import os
import platform
import shutil
import time
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING

from kinsight import __version__, storage
from kinsight.errors import KinsightError, RunError
from kinsight.specs.demo import DoctorSpec

if TYPE_CHECKING:
    import torch

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pyarrow", "pillow", "s3fs", "pydantic", "simplejpeg")
_CREDENTIALS = ("OSS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID", "AWS_PROFILE")


def run(spec: DoctorSpec) -> None:
    """Print the findings. Raises RunError at the end when something does not work."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    faults = 0
    checks: list[tuple[str, Callable[[], str]]] = [
        ("kinsight", lambda: f"{__version__} on Python {platform.python_version()}, {platform.system()}"),
        ("packages", _packages),
        ("processor", _processor),
        ("GPU", _gpu),
        ("arithmetic", _arithmetic),
        ("memory", _memory),
        ("cache", _cache),
        ("weights", _weights),
        ("credentials", _credentials),
    ]
    if spec.address is not None:
        address = spec.address
        checks.append(("address", lambda: _address(address)))
    for name, check in checks:
        try:
            table.add_row(name, check(), style=None)
        except KinsightError as error:
            faults += 1
            table.add_row(name, f"[red]{str(error).replace('[', chr(92) + '[')}[/red]")
    Console(highlight=False).print(table)
    if faults:
        raise RunError("doctor.faults", f"{faults} of {len(checks)} checks failed, see above")


def _packages() -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)


def _processor() -> str:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores usable, {torch.get_num_threads()} torch threads"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none that torch can use; jobs run on the CPU"
    names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return ", ".join(f"{item.name} with {item.total_memory / 2**30:.0f} GiB" for item in names)


def _arithmetic() -> str:
    """Measured products, since what a processor announces and what it does are two things."""
    import torch

    from kinsight.parallel.device import choose_precision, pick_device

    device = pick_device("auto")
    chosen = choose_precision("auto", device)
    speeds = {
        name: _product_gflops(device, dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    measured = ", ".join(f"{name} {speed:,.0f} GFLOP/s" for name, speed in speeds.items())
    return f"{chosen.name} on {device.type} ({chosen.why}); matrix products: {measured}"


def _product_gflops(device: "torch.device", dtype: "torch.dtype") -> float:
    import torch

    size = 1024
    left, right = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    float((left @ right)[0, 0])
    started, rounds = time.perf_counter(), 0
    while time.perf_counter() - started < 0.2:
        float((left @ right)[0, 0])
        rounds += 1
    return rounds * 2 * size**3 / (time.perf_counter() - started) / 1e9


def _memory() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{total:.0f} GiB; {shutil.disk_usage('.').free / 2**30:.0f} GiB free on this disk"


def _cache() -> str:
    folder = storage.cache_directory()
    return f"{folder} (KINSIGHT_CACHE)"


def _weights() -> str:
    address = os.environ.get("KINSIGHT_WEIGHTS")
    if address is None:
        return "from the hub; offline: set KINSIGHT_WEIGHTS to a folder of <timm name>.safetensors"
    count = sum(entry.relative.endswith(".safetensors") for entry in storage.list_files(address))
    return f"{count} weights files in {storage.Address.parse(address)}"


def _credentials() -> str:
    found = [name for name in _CREDENTIALS if os.environ.get(name)]
    return ", ".join(f"{name} is set" for name in found) or "none in the environment (files are looked at when needed)"


def _address(text: str) -> str:
    """Read from a file, or list and try to write to a folder."""
    address = storage.Address.parse(text)
    if storage.exists(address) and not storage.is_directory(address):
        started = time.perf_counter()
        data = storage.read_bytes(address, length=1 << 20)
        return (
            f"{address}: {storage.size(address):,} bytes; read {len(data):,} in {time.perf_counter() - started:.2f} s"
        )
    storage.OutputDir(address).check_writable()
    return f"{address}: writable"
