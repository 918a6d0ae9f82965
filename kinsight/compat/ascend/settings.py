"""From the flags of run_dcnet.py to a partition's settings, each wrong one named as the flag it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from kinsight.compat.ascend.flags import NPROBES
from kinsight.compat.flags import Values
from kinsight.errors import DataError, SpecError
from kinsight.partition.ratio import MOST_FUZZY
from kinsight.progress import say, warn
from kinsight.specs.flags import check as check_spec
from kinsight.specs.partition import PartitionSpec

MOST_SAMPLED = 1_000_000
"""Learn vectors whose neighbours are found for the network to learn from."""
_MOST_PERCENT = MOST_FUZZY - 1
_MOST_LR = 1e30
_TRAINING = (
    "warmup", "epochs", "batch_size", "start_epoch", "lr", "use_amp", "apex_mode", "scale", "ftopk", "param_list",
    "use_drop", "drop_prop", "nlist", "niter", "seed", "log_interval",
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What param_list and nlist say. hidden: widths between."""

    dim: int
    hidden: tuple[int, ...]
    lists: int


def check(values: Values) -> None:
    """What can be said of the flags alone. Raises SpecError."""
    needed = ["save_path", "data_path", "data_name", "percents", *(["ai_center"] if values["eval"] else ["learn_name"])]
    for name in needed:
        if values[name] is None or values[name] == "":
            why = " with --eval True" if name == "ai_center" else ""
            raise SpecError("spec.needed", f"must be given{why}", field=f"--{name}", remedy=_EXAMPLE[name])
    _one_of(values, "metric", ("IP", "L2"))
    _one_of(values, "apex_mode", ("O1", "O2"))
    for name in ("epochs", "batch_size", "valid_batch_size", "ftopk", "niter", "log_interval"):
        _within(values, name, 1, None)
    for name in ("warmup", "start_epoch", "seed"):
        _within(values, name, 0, None)
    _within(values, "gpu", -1, None)
    if not 0 < values["lr"] <= _MOST_LR:
        raise _wrong("lr", values["lr"], f"must be above 0, and {_MOST_LR:g} at most")
    if not 0 < values["scale"] < float("inf"):
        raise _wrong("scale", values["scale"], "must be above 0")
    if not 0 <= values["drop_prop"] < 1:
        raise _wrong("drop_prop", values["drop_prop"], "must be 0 or more, and below 1")
    for percent in values["percents"]:
        if not 0 <= percent <= _MOST_PERCENT:
            raise _wrong("percents", percent, f"copies per base vector are 0 to {_MOST_PERCENT}; 0.8 to 1.5 are usual")
    if min(values["nprobes"]) < 1:
        raise _wrong("nprobes", min(values["nprobes"]), "must be at least 1")
    if values["start_epoch"] > values["epochs"]:
        raise _wrong("start_epoch", values["start_epoch"], f"is beyond --epochs {values['epochs']}")
    _say_in_vain(values)


def _say_in_vain(values: Values) -> None:
    if values["eval"]:
        vain, why = values.given_of(*_TRAINING), "with --eval True"
    else:
        vain, why = values.given_of("ai_center"), "without --eval True"
    if vain:
        warn(f"{', '.join(vain)}: no effect {why}")
    if not values["eval"]:
        if not values["use_drop"] and (vain := values.given_of("drop_prop")):
            warn(f"{vain[0]}: no effect without --use_drop True")
        if not values["use_amp"] and (vain := values.given_of("apex_mode", "scale")):
            warn(f"{', '.join(vain)}: no effect without --use_amp True")


def shape_of(values: Values) -> Shape:
    """Raises SpecError where --nlist was given and is not the last of --param_list."""
    widths: list[int] = values["param_list"]
    if len(widths) < 2 or min(widths) < 1:
        raise _wrong("param_list", widths, "two widths at least, each 1 or more: dimensions first, lists last")
    if len(widths) > 10 or max(widths[1:-1], default=1) > 65536:
        raise _wrong("param_list", widths, "at most 8 layers between the first and the last, of 65,536 at most")
    if widths[-1] < 2:
        raise _wrong("param_list", widths, "the last is the number of lists, 2 at least")
    if values["nlist"] != widths[-1]:
        if "nlist" in values.given:
            raise SpecError(
                "spec.disagree",
                f"{values['nlist']}: the last of --param_list {' '.join(map(str, widths))} must be the same",
                field="--nlist",
                remedy=f"give --nlist {widths[-1]}, or leave it out, or end --param_list with {values['nlist']}",
            )
        say(f"lists       {widths[-1]:,}, the last of --param_list")
    return Shape(widths[0], tuple(widths[1:-1]), widths[-1])


def spec_of(values: Values, shape: Shape, learn: str, count: int, device: torch.device) -> PartitionSpec:
    """The training's settings. count: learn vectors. Raises SpecError, DataError."""
    if shape.hidden and values["batch_size"] < 2:
        what = "must be 2 at least: the layers between are normalised over the vectors of a step"
        raise _wrong("batch_size", values["batch_size"], what)
    dropout = values["drop_prop"] if values["use_drop"] else 0.0
    if dropout and not shape.hidden:
        warn("--use_drop True: no effect on a --param_list without layers between")
    tree: dict[str, Any] = {
        "vectors": learn,
        "output": values["save_path"],
        "metric": metric_of(values),
        "lists": shape.lists,
        "cluster": {"iterations": values["niter"]},
        "targets": {"neighbors": values["ftopk"], "sample": MOST_SAMPLED},
        "router": {"kind": "mlp", "hidden": list(shape.hidden), "dropout": dropout} if shape.hidden else {},
        "fit": {
            "epochs": values["epochs"],
            "warmup_epochs": _warmup(values),
            "batch_size": values["batch_size"],
            "lr": values["lr"],
            "precision": _precision(values, device),
        },
        "seed": values["seed"],
        "device": device.type,
    }
    spec = _checked(tree)
    _refuse_few(values, shape, learn, count)
    return spec


def _checked(tree: dict[str, Any]) -> PartitionSpec:
    """By the bounds of a partition's settings, each of them named as the flag it is. Raises SpecError."""
    try:
        spec = check_spec(PartitionSpec, tree)
    except SpecError as error:
        path, _, fault = error.message.splitlines()[0].partition("=")
        if path not in _FLAGS:
            raise
        raise SpecError("spec.value", fault, field=f"--{_FLAGS[path]}") from None
    assert isinstance(spec, PartitionSpec)
    return spec


_FLAGS = {
    "lists": "param_list", "cluster.iterations": "niter", "targets.neighbors": "ftopk", "fit.epochs": "epochs",
    "fit.batch_size": "batch_size", "seed": "seed",
}  # fmt: skip


def _refuse_few(values: Values, shape: Shape, learn: str, count: int) -> None:
    if count < 8 * shape.lists:
        raise DataError(
            "partition.lists",
            f"{count:,} learn vectors are too few for {shape.lists:,} lists: 8 are needed for each",
            field=learn,
            remedy=f"end --param_list with {count // 8:,} at most, or learn from more vectors"
            if count >= 16
            else "give 16 learn vectors at least",
        )
    if values["ftopk"] >= count:
        raise _wrong("ftopk", values["ftopk"], f"there are {count:,} learn vectors alone")


def metric_of(values: Values) -> Literal["cosine", "l2"]:
    """IP is of vectors brought to unit length."""
    return "cosine" if values["metric"] == "IP" else "l2"


def device_of(values: Values) -> torch.device:
    """The GPU of that number; without any, a warning and the CPU. Raises SpecError for a number there is not."""
    number = values["gpu"]
    if number < 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        warn(f"--gpu {number}, but this machine has no GPU that torch can use: computing on the CPU")
        return torch.device("cpu")
    if number >= torch.cuda.device_count():
        raise _wrong("gpu", number, f"this machine has {torch.cuda.device_count()} GPUs, numbered from 0")
    return torch.device("cuda", number)


def probes_of(values: Values, lists: int) -> list[int]:
    """Ascending. Raises SpecError for more than there are lists, unless they are the default."""
    probes = sorted(set(values["nprobes"]))
    if probes[-1] > lists:
        if "nprobes" in values.given:
            raise _wrong("nprobes", probes[-1], f"there are {lists} lists")
        probes = [each for each in NPROBES if each <= lists]
    return probes


def _warmup(values: Values) -> float:
    """Below the number of epochs: at the highest rate alone nothing settles."""
    warmup, epochs = values["warmup"], values["epochs"]
    if warmup < epochs:
        return float(warmup)
    less = epochs - 1 if epochs > 1 else 0.5
    warn(f"--warmup {warmup} of --epochs {epochs}: the rate rises for {less:g}, and falls in the rest")
    return float(less)


def _precision(values: Values, device: torch.device) -> str:
    if not values["use_amp"]:
        return "fp32"
    if device.type == "cuda":
        if values["apex_mode"] == "O2":
            say("precision   fp16 with float32 weights; O2, which would keep fp16 weights, computes as O1")
        return "fp16"
    from kinsight.parallel.device import choose_precision

    found = choose_precision("auto", device)
    warn(f"--use_amp True on the CPU: {found.name} ({found.why}); --apex_mode and --scale have no effect")
    return "auto"


def _one_of(values: Values, name: str, known: Sequence[str]) -> None:
    if values[name] not in known:
        raise _wrong(name, values[name], f"must be {' or '.join(known)}")


def _within(values: Values, name: str, low: int, high: int | None) -> None:
    if values[name] < low or (high is not None and values[name] > high):
        raise _wrong(name, values[name], f"must be at least {low}")


def _wrong(name: str, value: object, expected: str) -> SpecError:
    return SpecError("spec.value", f"{value}: {expected}", field=f"--{name}")


_EXAMPLE = {
    "save_path": "give the folder for the model, as in --save_path ./save_path/",
    "data_path": "give the folder of the data, as in --data_path /data1/",
    "data_name": "give the folder, within --data_path, of base.npy, query.npy and gt.npy",
    "learn_name": "give the name of the file to learn from, within --data_path, without .npy",
    "percents": "give copies per base vector, as in --percents 0.0 0.8 1.0 1.25 1.50",
    "ai_center": "give the trained model, as in --ai_center ./save_path/ivfast.npy",
}
