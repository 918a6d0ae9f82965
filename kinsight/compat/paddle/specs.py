"""The training scripts' flags as the settings of `kinsight train`."""

from typing import Any

from kinsight import storage
from kinsight.compat.flags import Values
from kinsight.compat.paddle.common import (
    TEST_LIST,
    TRAIN_LIST,
    at_least,
    device,
    image,
    listed,
    save_folder,
    without_effect,
    workers,
)
from kinsight.compat.paddle.start import check_backbone, refuse_paddle, start_of
from kinsight.errors import SpecError
from kinsight.evaluation.class_weights import read_class_weights
from kinsight.models import backbone_dim
from kinsight.progress import say, warn
from kinsight.specs.flags import check
from kinsight.specs.train import TrainSpec

ELEM, PAIR = ("softmax", "arcmargin"), ("triplet", "quadruplet", "eml", "npairs")
_ARC = ("arc_scale", "arc_margin", "arc_easy_margin")


def train_spec(values: Values) -> TrainSpec:
    """The training that a command line of `train_elem.py` or `train_pair.py` asks for.

    Raises KinsightError in the flags' own names; what has no effect is said, once.
    """
    at_least(values, 1, "train_batch_size", "test_batch_size", "total_iter_num")
    at_least(values, 0, "embedding_size", "display_iter_step", "test_iter_step", "save_iter_step")
    if not values["lr"] > 0:
        raise SpecError("spec.value", f"{values['lr']}: must be above 0", field="--lr")
    elem, loss = values.script == "train_elem.py", _loss_name(values)
    check_backbone(values)
    tree = _run(values) | _data(values) | _model(values, elem) | _rate(values)
    tree |= _elem(values, loss) if elem else _pair(values, loss)
    spec = check(TrainSpec, tree)
    assert isinstance(spec, TrainSpec)
    return spec


def _loss_name(values: Values) -> str:
    loss = values["loss_name"]
    own = ELEM if values.script == "train_elem.py" else PAIR
    if loss in own:
        return loss
    other = "train_pair.py" if own is ELEM else "train_elem.py"
    raise SpecError(
        "spec.value",
        f"{loss!r}: {values.script} knows {', '.join(own)}",
        field="--loss_name",
        remedy=f"{loss} is trained by {other}" if loss in ELEM + PAIR else "choose one of those",
    )


def _run(values: Values) -> dict[str, Any]:
    total, save, folder = values["total_iter_num"], values["save_iter_step"], save_folder(values)
    return {
        "output": f"{folder}/run-{values['loss_name']}",
        "steps": total,
        "log_every_steps": values["display_iter_step"] or total,
        "checkpoint": {"every_steps": save or None},
        "snapshots": {"every_steps": save or None, "path": folder},
        "device": device(values),
        "precision": "fp32",
    }


def _data(values: Values) -> dict[str, Any]:
    given = values["class_dim"] if values.script == "train_elem.py" and "class_dim" in values.given else None
    data: dict[str, Any] = {
        "train": listed(values, TRAIN_LIST),
        "augment": {"kind": "photo", "min_area": 0.08, "flip": True},
        "num_classes": given,
        "workers": workers(),
        **image(values).model_dump(),
    }
    every = values["test_iter_step"]
    if not 0 < every <= values["total_iter_num"]:
        return {"data": data}
    data["validation"] = listed(values, TEST_LIST)
    return {"data": data, "validate": {"every_steps": every, "batch_size": values["test_batch_size"]}}


def _model(values: Values, elem: bool) -> dict[str, Any]:
    size = values["embedding_size"]
    model: dict[str, Any] = {
        "backbone": values["model"],
        "pretrained": None,
        "neck": {"kind": "linear" if size else "none"},
        "embedding_dim": size or backbone_dim(values["model"], image(values)),
    }
    if checkpoint := values["checkpoint"]:
        refuse_paddle(storage.Address.parse(checkpoint), "checkpoint")
        without_effect(values.given_of("pretrained_model"), "with --checkpoint, which brings all weights")
        return {"model": model, "resume_from": checkpoint}
    start = start_of(values)
    if start.weights is not None:
        model["pretrained"] = start.weights
    if start.bundle is None:
        return {"model": model}
    model["init_from"] = start.bundle
    return {"model": model} | _head(start.bundle, values["loss_name"], elem)


def _head(bundle: str, loss: str, elem: bool) -> dict[str, Any]:
    """Class weights to start from, where the bundle has any of this loss; others are left out, which is said."""
    if (found := read_class_weights(bundle)) is None:
        return {}
    if elem and found.loss.kind == loss:
        return {"head": {"init_from": bundle}}
    why = f"they are {found.loss.kind}'s, not {loss}'s" if elem else f"{loss} compares images and has none"
    say(f"left out    the class weights in {bundle}: {why}")
    return {}


def _rate(values: Values) -> dict[str, Any]:
    if values["lr_strategy"] != "piecewise_decay":
        message = f"{values['lr_strategy']!r}: the script knows piecewise_decay alone"
        raise SpecError(
            "spec.value", message, field="--lr_strategy", remedy="other schedules: kinsight train --schedule"
        )
    try:
        steps = [int(step) for step in values["lr_steps"].split(",")]
    except ValueError:
        steps = []
    if not steps or steps != sorted(set(steps)) or steps[0] < 1:
        message = f"{values['lr_steps']!r}: expected rising iterations, as in 15000,25000"
        raise SpecError("spec.value", message, field="--lr_steps")
    return {
        "optimizer": {"kind": "sgd", "lr": values["lr"], "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {"kind": "step", "at": steps, "unit": "steps", "gamma": 0.1},
    }


def _elem(values: Values, loss: str) -> dict[str, Any]:
    tree: dict[str, Any] = {"sampler": {"kind": "shuffle", "reshuffle": False}}
    tree["batch"] = {"size": values["train_batch_size"]}
    if loss == "softmax":
        without_effect(values.given_of(*_ARC), "with softmax")
        return tree | {"loss": {"kind": "softmax"}}
    margin = {"margin_rad": values["arc_margin"], "easy_margin": values["arc_easy_margin"]}
    return tree | {"loss": {"kind": "arcmargin", "scale": values["arc_scale"], **margin}}


def _pair(values: Values, loss: str) -> dict[str, Any]:
    unused = ["class_dim"]
    unused += [] if loss in ("triplet", "quadruplet") else ["margin"]
    unused += ["samples_each_class"] if loss == "triplet" else []
    unused += [] if loss == "npairs" else ["npairs_reg_lambda"]
    without_effect(values.given_of(*unused), f"with {loss}")
    if loss == "triplet":
        triplet = {"kind": "triplet", "margin": values["margin"], "distance": "squared-euclidean", "mean_over": "all"}
        loss_tree = {**triplet, "miner": {"kind": "consecutive"}}
        return {"loss": loss_tree, "sampler": {"kind": "triplets"}, "batch": {"size": _of_triplets(values)}}
    arms = {
        "quadruplet": {"margin": values["margin"]},
        "eml": {},
        "npairs": {"reg_weight": values["npairs_reg_lambda"]},
    }
    sampler = {"kind": "per-class", "samples_per_class": _samples(values, loss)}
    return {"loss": {"kind": loss, **arms[loss]}, "sampler": sampler, "batch": {"size": values["train_batch_size"]}}


def _of_triplets(values: Values) -> int:
    """The documented batch of 160 is none of triplets."""
    size = values["train_batch_size"]
    if size < 3:
        raise SpecError("spec.value", f"{size}: a triplet is 3 images", field="--train_batch_size")
    if size % 3:
        warn(f"--train_batch_size={size} is no multiple of 3: {size - size % 3} images a step, {size // 3} triplets")
    return size - size % 3


def _samples(values: Values, loss: str) -> int:
    size, samples = values["train_batch_size"], values["samples_each_class"]
    at_least(values, 2, "samples_each_class")
    if loss == "npairs" and samples != 2:
        raise SpecError("spec.value", f"{samples}: npairs takes 2", field="--samples_each_class")
    if size % samples:
        near = [multiple for multiple in (size - size % samples, size - size % samples + samples) if multiple]
        raise SpecError(
            "spec.value",
            f"{size}: must divide by --samples_each_class={samples}",
            field="--train_batch_size",
            remedy=f"give {' or '.join(map(str, near))}",
        )
    return samples
