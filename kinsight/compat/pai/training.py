"""`-Dcmd train`: -Dparam_config becomes a `train` job, and an `evaluate` job on the same test data behind it."""

from typing import Any

from kinsight.compat.flags import Values
from kinsight.compat.pai.machine import Machine
from kinsight.compat.pai.parameters import at_least, needed, one_of
from kinsight.compat.pai.start import start_of
from kinsight.errors import SpecError
from kinsight.progress import say, warn
from kinsight.specs.flags import check
from kinsight.specs.train import TrainSpec

TASKS = {"Classification": "classification", "MultiLabelClassification": "multilabel"}
OPTIMIZERS = ("momentum", "adam")
RATES: dict[str, tuple[str, ...]] = {
    "exponential_decay": ("decay_epochs", "decay_factor", "staircase"),
    "polynomial_decay": ("power",),
    "manual_step": ("decay_epochs", "learning_rates"),
    "cosine_decay": (),
}
"""Parameters that each --lr_type reads."""
_MOMENTUM = 0.9
_POLYNOMIAL_END = 1e-3  # of the initial rate, as documented
_CROP = 0.875  # of the shorter side, in evaluation: what training by crops is measured with


def train_spec(values: Values, machine: Machine) -> TrainSpec:
    """The training that the parameters stand for. Raises SpecError, DataError, StorageError."""
    needed(
        values, "model_type", "num_classes", "train_data", "test_data", "train_batch_size", "test_batch_size",
        "model_dir", "num_epochs",
    )  # fmt: skip
    _in_bounds(values)
    spec = check(TrainSpec, _tree(values, machine))
    assert isinstance(spec, TrainSpec)
    return spec


def _in_bounds(values: Values) -> None:
    at_least(values, 1, "num_classes", "train_batch_size", "test_batch_size", "num_epochs", "save_checkpoint_epochs")
    at_least(values, 0, "train_num_readers", "num_train_images", "num_visualizations")
    at_least(values, -1, "num_test_example")
    if values["num_test_example"] == 0:
        raise SpecError("spec.value", "0: must be 1 or more, or -1 for all", field="--num_test_example")
    rate = one_of(values, "lr_type", tuple(RATES))
    every = {name for names in RATES.values() for name in names}
    if vain := values.given_of(*sorted(every - set(RATES[rate]))):
        warn(f"{', '.join(vain)}: no effect with --lr_type {rate}")


def _tree(values: Values, machine: Machine) -> dict[str, Any]:
    pieces = -(-machine.workers // machine.ranks)
    return {
        "output": values["model_dir"],
        "task": TASKS[one_of(values, "model_type", TASKS)],
        "data": {
            "train": source(values, "train_data"),
            "validation": source(values, "test_data"),
            "num_classes": values["num_classes"],
            "image_size": values["image_size"],
            "augment": {"kind": "photo"} if values["use_crop"] else {"kind": "light", "min_area": 1.0},
            "crop": _CROP if values["use_crop"] else 1.0,
            "workers": values["train_num_readers"],
        },
        "model": {"backbone": values["backbone"], **start_of(values)},
        "optimizer": _optimizer(values),
        "schedule": schedule(values),
        # Each worker was to compute a batch of its own; where fewer ranks run, each computes several pieces.
        "batch": {"size": values["train_batch_size"] * machine.workers, "accumulate": pieces},
        "epochs": values["num_epochs"],
        "validate": {"batch_size": values["test_batch_size"], **_tested(values)},
        "checkpoint": {"every_epochs": values["save_checkpoint_epochs"]},
        "device": machine.device,
        "nproc": machine.ranks,
    }


def source(values: Values, name: str) -> dict[str, Any]:
    """TFRecords, and what the numbers of labels mean in them."""
    label_map = {"label_map": values["label_map_path"]} if values["label_map_path"] else {}
    return {"format": "tfrecord", "path": values[name], "label_offset": values["label_offset"], **label_map}


def _tested(values: Values) -> dict[str, Any]:
    told = {"each_class": values["eval_each_category"], "num_visualizations": values["num_visualizations"]}
    number = values["num_test_example"]
    return {"classes": told} if number == -1 else {"classes": told, "images": number}


def _optimizer(values: Values) -> dict[str, Any]:
    rate = values["initial_learning_rate"]
    match one_of(values, "optimizer", OPTIMIZERS):
        case "momentum":
            return {"kind": "sgd", "momentum": _MOMENTUM, "lr": rate}
        case _:
            return {"kind": "adam", "lr": rate}


def schedule(values: Values) -> dict[str, Any]:
    """The learning rate over time; none of the documented ones warms up. Raises SpecError."""
    plain = {"warmup_steps": 0}
    epochs = values["decay_epochs"]
    match one_of(values, "lr_type", tuple(RATES)):
        case "exponential_decay":
            if len(epochs) != 1:
                raise SpecError(
                    "spec.value",
                    f"{' '.join(map(str, epochs))}: exponential_decay takes one number, the epochs of one decay",
                    field="--decay_epochs",
                    remedy="give one, such as half of --num_epochs; or --lr_type manual_step with --learning_rates",
                )
            if epochs[0] < 1:
                raise SpecError("spec.value", f"{epochs[0]}: must be at least 1", field="--decay_epochs")
            every = {"every": epochs[0], "unit": "epochs", "staircase": values["staircase"]}
            return {"kind": "exponential", "gamma": values["decay_factor"], **every, **plain}
        case "polynomial_decay":
            return {"kind": "polynomial", "power": values["power"], "min_lr_ratio": _POLYNOMIAL_END, **plain}
        case "manual_step":
            return {**_steps(values), **plain}
        case _:
            return {"kind": "cosine", "min_lr": 0.0, **plain}


def _steps(values: Values) -> dict[str, Any]:
    """The rates that the training comes to; one that it does not is said."""
    for name in ("decay_epochs", "learning_rates"):
        if name not in values.given:
            what = "must be given with --lr_type manual_step"
            raise SpecError("spec.needed", what, field=f"--{name}", remedy=_STEPS)
    epochs, rates = values["decay_epochs"], values["learning_rates"]
    if len(epochs) != len(rates):
        raise SpecError(
            "spec.lengths",
            f"{len(rates)} for {len(epochs)} --decay_epochs ({' '.join(map(str, epochs))}): each needs its own",
            field="--learning_rates",
            remedy=_STEPS,
        )
    if epochs != sorted(set(epochs)) or epochs[0] < 1:
        what = f"{' '.join(map(str, epochs))}: must rise, from 1 on"
        raise SpecError("spec.value", what, field="--decay_epochs", remedy=_STEPS)
    used = [pair for pair in zip(epochs, rates, strict=True) if pair[0] < values["num_epochs"]]
    if vain := [epoch for epoch in epochs if epoch >= values["num_epochs"]]:
        what = f"never reached within --num_epochs {values['num_epochs']}: the rates from there on are not used"
        warn(f"--decay_epochs {' '.join(map(str, vain))}: {what}")
    if not used:
        return {"kind": "constant"}
    at, rates = zip(*used, strict=True)
    return {"kind": "step", "at": list(at), "unit": "epochs", "learning_rates": list(rates)}


_STEPS = "as in --decay_epochs 20 40 --learning_rates 0.001 0.0001"


def fitted(spec: TrainSpec, values: Values, images: int) -> TrainSpec:
    """The training with a batch that so many images fill, and no rank without an image; what differs from what was
    given is said.
    """
    given = values["num_train_images"]
    if given and given != images:
        warn(f"--num_train_images {given:,}: {values['train_data']} holds {images:,}; an epoch is all of them")
    if spec.batch.size <= images:
        return spec
    warn(f"--train_batch_size: a step of {spec.batch.size} images, but there are {images}: a step is all of them")
    ranks = min(spec.nproc or 1, images)
    if ranks < (spec.nproc or 1):
        warn(f"{spec.nproc} ranks were to compute, {ranks} do: there is an image for each")
    pieces = min(spec.batch.accumulate, -(-images // ranks))
    batch = spec.batch.model_copy(update={"size": images, "accumulate": pieces})
    return spec.model_copy(update={"batch": batch, "nproc": ranks})


def say_size(values: Values) -> None:
    """A picture size that is not the network's own; of the networks made here, building one says it."""
    from kinsight.models.backbones import size_note
    from kinsight.models.names import resolve

    name = resolve(values["backbone"])
    if not name.is_ours and (note := size_note(name, values["image_size"])) is not None:
        say(f"image_size  {note}")
