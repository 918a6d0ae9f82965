"""Trainings in processes of their own that tests can signal and kill, without starting Python anew for each.

The processes are forked from one that has imported everything (multiprocessing's forkserver), and run the command line.
"""

import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

Settings = dict[str, Any]

_PRELOAD = [
    "kinsight.cli",
    "kinsight.training",
    "kinsight.training.worker",
    "matplotlib.backends.backend_agg",
    "torch._dynamo",
    "torch.distributed.checkpoint.hf_storage",
    "torch.distributed.checkpoint.state_dict_saver",
    "torch.distributed.checkpoint.state_dict_loader",
    "torch.distributed.launcher.api",
    "torch.utils.tensorboard.writer",
    "s3fs",
]
_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass
class Run:
    """A running command line. log: file of its standard output and error."""

    process: Any
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self, limit_s: float = 120.0) -> int:
        """Its exit code; negative for a signal."""
        self.process.join(limit_s)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running after {limit_s} s:\n{self.text}")
        return self.process.exitcode

    @property
    def text(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def signal_when(
        self, condition: Callable[[], bool], number: signal.Signals = signal.SIGKILL, *, limit_s: float = 120.0
    ) -> int:
        """Send a signal as soon as `condition` holds; the exit code."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert self.process.is_alive(), f"ended before it could be stopped:\n{self.text}"
            assert time.monotonic() < deadline, f"the moment never came:\n{self.text}"
            time.sleep(0.0005)
        os.kill(self.pid, number)
        return self.wait(limit_s)


def start(words: Sequence[str], log: Path, *, before: Callable[[], None] | None = None, **environment: str) -> Run:
    """`kinsight WORDS` in a process of its own, and of its own process group; `before` is called in it first."""
    multiprocessing.set_forkserver_preload(_PRELOAD)
    process = _CONTEXT.Process(target=_main, args=(list(words), str(log), os.environ | environment, before))
    log.touch()
    process.start()
    return Run(process, log)


def finish(words: Sequence[str], log: Path, *, code: int = 0, **environment: str) -> str:
    """Run to the end, expect an exit code; what was printed."""
    run = start(words, log, **environment)
    assert run.wait() == code, run.text
    return run.text


def start_group(
    words: Sequence[str], world: int, log: Path, *, before: Callable[[], None] | None = None, **others: str
) -> list[Run]:
    """`kinsight WORDS` in `world` processes, as a launcher such as torchrun starts them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    runs = []
    for rank in range(world):
        mine = {"RANK": rank, "LOCAL_RANK": rank, "GLOO_SOCKET_IFNAME": "lo", **common}
        environment = others | {name: str(value) for name, value in mine.items()}
        runs.append(start(words, log.with_name(f"{log.name}-{rank}"), before=before, **environment))
    return runs


def finish_group(
    words: Sequence[str], world: int, log: Path, *, before: Callable[[], None] | None = None, **others: str
) -> str:
    """Run a group to the end; what the main process printed."""
    runs = start_group(words, world, log, before=before, **others)
    assert [run.wait() for run in runs] == [0] * world, "\n".join(run.text for run in runs)
    return runs[0].text


def _main(words: list[str], log: str, environment: dict[str, str], before: Callable[[], None] | None) -> None:
    os.setpgid(0, 0)
    os.environ.clear()  # the server of the forks has the environment of whoever started it
    os.environ.update(environment | {"OMP_NUM_THREADS": "1"})
    # and its signals that are held back: SIGINT, where a loader of remote images started it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    stream = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    import torch

    from kinsight.cli import main

    torch.set_num_threads(1)
    if before is not None:
        before()
    code = main(words)
    sys.stdout.flush()
    sys.exit(code)


def draw_images(folder: Path, *, classes: int, each: int, seed: int, size: int = 28) -> Path:
    """Noisy squares of `classes` patterns as PNG files; the path of their list.

    Never black or white: in flat regions the largest of equal values would decide, and rounding which one that is.
    """
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = []
    for label in range(classes):
        pattern = np.kron(random.integers(90, 166, (7, 7)), np.ones((size // 7, size // 7)))
        for number in range(each):
            pixels = np.clip(pattern + random.normal(0, 25, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{label}-{number}.png")
            lines.append(f"{label}-{number}.png {label}")
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return folder / "list.txt"


def flags(settings: dict[str, Any]) -> list[str]:
    """Settings as words of a command line."""
    return [word for key, value in settings.items() for word in (f"--{key}", _word(value))]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def checkpoints(output: Path) -> list[str]:
    """Names of the complete checkpoints."""
    return sorted(path.parent.name for path in output.glob("checkpoints/step-*/checkpoint.json"))


def rows(output: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the clock."""
    found = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in row.items() if key not in ("time", "seconds", "images_per_s")} for row in found
    ]


def outcome(output: Path) -> dict[str, Any]:
    """All that a finished run leaves and that must not depend on interruptions, byte for byte."""
    summary = json.loads((output / "run.json").read_text())
    summary["position"].pop("seconds")
    last = output / "checkpoints" / checkpoints(output)[-1]
    tensors = {
        name: (array.dtype, array.shape, array.tobytes())
        for path in last.glob("*.safetensors")
        for name, array in load_file(path).items()
    }
    random = {path.name: path.read_bytes() for path in sorted(last.glob("*.npz"))}
    return {
        "summary": summary,
        "rows": rows(output),
        "bundle": (output / "bundle/model.safetensors").read_bytes(),
        "best": (output / "best/model.safetensors").read_bytes(),
        "checkpoint": last.name,
        "tensors": tensors,
        "random": random,
    }


def spec_of(settings: Settings) -> dict[str, Any]:
    """Flags as the tree of a spec."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *above, name = key.replace("-", "_").split(".")
        place = tree
        for part in above:
            place = place.setdefault(part, {})
        place[name] = value
    return tree
