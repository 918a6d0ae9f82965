"""`pai-metric-learning PARAMS.yaml`: the console's component "Image metric learning training (raw)" as a `train` job.

PARAMS.yaml holds the parameters as the component's page prints their names and values:

Metric learning model type: Data-parallel metric learning
OSS directory for training output: oss://examplebucket/designer_test
Training annotation file path: oss://examplebucket/data/train_labeled.txt
Number of training classes: 300
Training batch_size: 64
"""

import difflib
import re
from typing import Any

from kinsight import storage
from kinsight.compat.pai import names
from kinsight.compat.pai.given import Given, key_of
from kinsight.compat.pai.machine import Asked, Machine, machine_for
from kinsight.compat.pai.names import LOSSES, MODEL_PARALLEL, Field
from kinsight.compat.words import Words
from kinsight.errors import DataError, SpecError
from kinsight.progress import say, warn
from kinsight.specs.flags import check, load_yaml
from kinsight.specs.load import as_yaml
from kinsight.specs.train import TrainSpec

_FORMATS = {"ClsSourceImageList": "image-list", "ClsSourceItag": "itag"}
_WORDS = Words(
    {
        "output": names.OUTPUT.name,
        "data.train": names.TRAIN.name,
        "data.validation": names.TEST.name,
        "data.classes": names.CLASSES.name,
        "data.num_classes": names.NUM_CLASSES.name,
        "data.image_size": names.SIZE.name,
        "data.workers": names.READERS.name,
        "model.backbone": names.BACKBONE.name,
        "model.backbone_dim": names.BACKBONE_DIM.name,
        "model.embedding_dim": names.EMBEDDING.name,
        "model.pretrained": names.PRETRAINED.name,
        "model.init_from": names.PRETRAINED.name,
        "loss.scale": names.SCALE.name,
        "loss.margin": names.MARGIN.name,
        "loss.margin_deg": names.MARGIN.name,
        "loss.weight": names.WEIGHT.name,
        "optimizer.lr": names.RATE.name,
        "batch.size": names.BATCH.name,
        "epochs": names.EPOCHS.name,
        "checkpoint.every_epochs": names.SAVE.name,
    },
    words_of_english=["output", "epochs"],
)


def run(words: list[str]) -> None:
    """Train as a file of parameters says; --dry-run prints the job's settings. Raises KinsightError."""
    files = [word for word in words if not word.startswith("--")]
    options = {word for word in words if word.startswith("--")}
    if len(files) != 1 or options - {"--dry-run", "--overwrite"}:
        raise SpecError(
            "pai.file",
            f"{names.SCRIPT} takes one file of parameters",
            remedy=f"kinsight compat {names.SCRIPT} PARAMS.yaml",
        )
    given = Given(load_yaml(storage.read_text(files[0]), files[0]), files[0])
    with _WORDS.used():
        spec = check(TrainSpec, tree_of(given))
    assert isinstance(spec, TrainSpec)
    if "--dry-run" in options:
        print(as_yaml(spec), end="")
        return
    from kinsight.training import train

    with _WORDS.used():
        train(spec, overwrite="--overwrite" in options)


def tree_of(given: Given) -> dict[str, Any]:
    """The settings of the training that the parameters stand for. Raises SpecError, DataError."""
    machine = _machine(given)
    parallel = given.choice(names.MODEL_TYPE, [names.DATA_PARALLEL, MODEL_PARALLEL]) == MODEL_PARALLEL
    return {
        "output": given.text(names.OUTPUT),
        "task": "metric",
        "data": _data(given),
        "model": _model(given),
        "loss": _loss(given, parallel),
        "optimizer": {
            "kind": given.choice(names.OPTIMIZER, ["SGD", "AdamW"]).lower(),
            "lr": given.number(names.RATE),
        },
        "batch": {
            "size": given.number(names.BATCH) * machine.workers,
            "accumulate": -(-machine.workers // machine.ranks),
        },
        "epochs": given.number(names.EPOCHS),
        "checkpoint": {"every_epochs": given.number(names.SAVE)},
        "precision": _precision(given, machine),
        "device": machine.device,
        "nproc": machine.ranks,
    }


def _data(given: Given) -> dict[str, Any]:
    source = _FORMATS[given.choice(names.FORMAT, list(_FORMATS))]
    train, test = _ported(given, names.TRAIN_PORT, names.TRAIN), _ported(given, names.TEST_PORT, names.TEST)
    if train is None:
        raise SpecError("spec.needed", "must be given", field=names.TRAIN.name)
    tree: dict[str, Any] = {
        "train": {"format": source, "path": train},
        "num_classes": given.number(names.NUM_CLASSES),
        "image_size": given.number(names.SIZE),
        "workers": given.number(names.READERS),
    }
    if test is not None:
        tree["validation"] = {"format": source, "path": test}
    if given.has(names.CLASSES):
        tree["classes"] = given.text(names.CLASSES)
    return tree


def _ported(given: Given, port: Field, path: Field) -> str | None:
    """What is connected to a port goes before what is typed in."""
    if given.has(port) and given.has(path):
        warn(f"{path.name}: no effect, {port.name} is given")
    return given.text(port) or given.text(path)


def _model(given: Given) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "backbone": given.text(names.BACKBONE),
        "embedding_dim": given.number(names.EMBEDDING),
        "neck": {"kind": "cgd"},
    }
    if given.has(names.BACKBONE_DIM):  # the page's default is resnet50's
        tree["backbone_dim"] = given.number(names.BACKBONE_DIM)
    text = given.text(names.PRETRAINED)
    if text is None:
        return tree
    from kinsight.models.artefact import HEADER

    place = storage.Address.parse(text)
    if any(storage.exists(place.child(name)) for name in (HEADER, f"bundle/{HEADER}")):
        return {**tree, "init_from": text, "pretrained": None}
    if storage.is_directory(place):
        remedy = "give a training's output, a bundle, or a weights file"
        raise DataError("compat.no-model", f"{place} holds no model", field=names.PRETRAINED.name, remedy=remedy)
    return {**tree, "pretrained": text}


def _loss(given: Given, parallel: bool) -> dict[str, Any]:
    """The loss, with the cross-entropy beside it that data-parallel training has."""
    name = re.split(r"\s*(?:\(|, whose)", given.text(names.LOSS) or "")[0]
    known = {key_of(each): each for each in LOSSES}
    if key_of(name) not in known:
        near = difflib.get_close_matches(key_of(name), known, n=1)
        hint = f"; did you mean {known[near[0]]}?" if near else ""
        raise SpecError("spec.value", f"{name!r}: expected {', '.join(LOSSES)}{hint}", field=names.LOSS.name)
    name = known[key_of(name)]
    of_parallel = name.startswith("Model-parallel")
    if parallel and not of_parallel and name != "AMSoftmax":
        what = f"{name}: {MODEL_PARALLEL} has Model-parallel AMSoftmax and Model-parallel Softmax"
        raise SpecError("spec.value", what, field=names.LOSS.name)
    if of_parallel and not parallel:
        what = f"{name}: is for {MODEL_PARALLEL}"
        raise SpecError("spec.value", what, field=names.LOSS.name, remedy=f"set {names.MODEL_TYPE.name} to it")
    if parallel:
        say("parallel    class weights are whole on every rank; the loss is the same as of weights spread over them")
    kind, margin = LOSSES[name]
    tree: dict[str, Any] = {"kind": kind}
    settings = [(names.MARGIN, margin), (names.SCALE, "scale" if margin else None)]
    vain = [field.name for field, setting in settings if setting is None and given.has(field)]
    tree |= {setting: given.number(field) for field, setting in settings if setting and given.has(field)}
    if parallel and given.has(names.WEIGHT):
        vain.append(names.WEIGHT.name)
    elif not parallel:
        tree |= {"weight": given.number(names.WEIGHT), "ce": {}}
    if vain:
        warn(f"{', '.join(vain)}: no effect on {name}")
    return tree


def _machine(given: Given) -> Machine:
    distributed = given.choice(names.MODE, [names.STANDALONE, names.DISTRIBUTED]) == names.DISTRIBUTED
    workers = given.number(names.WORKERS)
    if not isinstance(workers, int) or workers < 1:
        raise SpecError("spec.value", f"{workers}: expected a whole number, 1 or more", field=names.WORKERS.name)
    if not distributed and workers > 1:
        warn(f"{names.WORKERS.name}: no effect with {names.MODE.name}: {names.STANDALONE}")
        workers = 1
    cards = re.search(r"(?<![\w.])(\d+)\s*x\s*[a-z]", given.text(names.GPU) or "", re.IGNORECASE)
    return machine_for(Asked(0, workers, int(cards[1]) if cards else 0, clustered=distributed, where=names.GPU.name))


def _precision(given: Given, machine: Machine) -> str:
    text = key_of(given.text(names.HALF) or "false")
    if text not in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        raise SpecError("spec.value", f"{text!r}: expected true or false", field=names.HALF.name)
    if text in ("false", "no", "off", "0"):
        return "fp32"
    if machine.device != "cuda":
        warn(f"{names.HALF.name}: fp16 needs a GPU; on the CPU bf16 is taken where that is faster")
        return "auto"
    return "fp16"
