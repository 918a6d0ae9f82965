"""Which device and which arithmetic a process uses, chosen once and printed at the start."""

import contextlib
import os
from dataclasses import dataclass

import torch

from kinsight.errors import SpecError


def pick_device(name: str) -> torch.device:
    """`auto`, `cuda`, `mps` or `cpu` -> the device of this process. Raises SpecError for one that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda":
        if not torch.cuda.is_available():
            raise SpecError(
                "run.no-device",
                "this machine has no CUDA device that torch can use",
                field="device=cuda",
                remedy="set device=auto, or look at `kinsight doctor`",
            )
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    if name == "mps" and not torch.backends.mps.is_available():
        raise SpecError("run.no-device", "this machine has no MPS device", field="device=mps", remedy="set device=auto")
    return torch.device(name)


def default_processes(device: str) -> int:
    """One per GPU, one on anything else."""
    return max(1, torch.cuda.device_count()) if device in ("auto", "cuda") and torch.cuda.is_available() else 1


@dataclass(frozen=True)
class Arithmetic:
    """name: fp32, bf16 or fp16. device_type: where. why: for the line printed at the start."""

    name: str
    device_type: str
    why: str

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context a forward pass runs in."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, torch.bfloat16 if self.name == "bf16" else torch.float16)

    def scaler(self, start: float | None = None) -> torch.amp.GradScaler | None:
        """The loss scaler fp16 needs, from a scale that is lowered where it overflows; None otherwise."""
        if self.name != "fp16":
            return None
        return torch.amp.GradScaler(self.device_type, init_scale=2.0**16 if start is None else start)


def choose_precision(name: str, device: torch.device) -> Arithmetic:
    """Settle `auto`, refuse what the device cannot do. Raises SpecError."""
    kind = device.type
    if name == "auto":
        if kind == "cpu":
            fast = _cpu_has_bf16()
            return Arithmetic(
                "bf16" if fast else "fp32", kind, "this CPU multiplies bf16 natively" if fast else "no bf16 units"
            )
        if kind == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            return Arithmetic("bf16" if native else "fp16", kind, "native on this GPU")
        return Arithmetic("fp32", kind, f"the safe choice on {kind}")
    if name == "fp16" and kind == "cpu":
        raise SpecError(
            "run.precision",
            "fp16 is not for CPUs",
            field="precision=fp16",
            remedy="set precision to auto, bf16 or fp32",
        )
    return Arithmetic(name, kind, "as set")


def _cpu_has_bf16() -> bool:
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    has_avx = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return bool(has_amx or has_avx) and torch.backends.mkldnn.is_available()
