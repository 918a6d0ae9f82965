"""`-name ev_predict_ext`: a `predict` job whose lines are an image's address, a comma, and the answer as JSON."""

from kinsight import storage
from kinsight.compat.pai.machine import asked_of, machine_for
from kinsight.compat.pai.words import PaiCommand
from kinsight.compat.words import Words
from kinsight.errors import DataError, SpecError, StorageError
from kinsight.models import load_header
from kinsight.progress import warn
from kinsight.specs.flags import check
from kinsight.specs.load import as_yaml
from kinsight.specs.predict import PredictSpec

TASKS = {"classifier": "classification", "multilabel_classifier": "multilabel", "feature_extractor": None}
_WORDS = Words(
    {
        "bundle": "-Dmodel_path",
        "input": "-Dinput_oss_file",
        "output": "-Doutput_oss_file",
        "workers": "-Dnum_worker",
        "batch_size": "-Dbatch_size",
    },
    words_of_english=["bundle", "input", "output", "workers", "batch_size"],
)


def predict(command: PaiCommand, dry_run: bool, overwrite: bool) -> None:
    """Write a line for each image. Raises KinsightError."""
    spec = predict_spec(command)
    if dry_run:
        print(as_yaml(spec), end="")
        return
    from kinsight.predicting import predict as predict_job

    with _WORDS.used():
        predict_job(spec, overwrite=overwrite)


def predict_spec(command: PaiCommand) -> PredictSpec:
    """The prediction that the parameters stand for. Raises SpecError, DataError, StorageError."""
    kind = _model_type(command)
    if (form := command.get("image_type") or "url") != "url":
        what = f"{form!r}: expected url; images within tables are MaxCompute's, which is out of reach here"
        raise SpecError("pai.image-type", what, field="-Dimage_type")
    if (layer := command.get("feature_name")) is not None:
        warn(f"-Dfeature_name {layer}: the embedding is written, whatever the layer")
    machine = machine_for(asked_of(command))
    tree = {
        "bundle": command.value["model_path"],
        "input": [command.value["input_oss_file"]],
        "output": command.value["output_oss_file"],
        "lines": "address-json",
        "answers": "features" if TASKS[kind] is None else "classes",
        "batch_size": _number(command, "batch_size", 64, 1),
        "workers": _number(command, "num_worker", 2, 0),
        "device": machine.device,
    }
    with _WORDS.used():
        spec = check(PredictSpec, tree)
    assert isinstance(spec, PredictSpec)
    return spec


def _model_type(command: PaiCommand) -> str:
    """One of `TASKS`, and what the model is. Raises SpecError."""
    kind = command.value["model_type"].lower()
    if kind not in TASKS:
        known = " or ".join(TASKS)
        what = f"{command.value['model_type']!r}: expected {known}; reading text is out of reach here"
        raise SpecError("pai.model-type", what, field="-Dmodel_type")
    task = _task(command)
    fitting = next((name for name, each in TASKS.items() if each == task), "feature_extractor")
    if TASKS[kind] not in (task, None):
        what = f"{kind}: the model was trained for {task}"
        raise SpecError("pai.model-type", what, field="-Dmodel_type", remedy=f"write -Dmodel_type={fitting}")
    return kind


def _task(command: PaiCommand) -> str:
    """What the model was trained for. Raises StorageError and DataError that name the parameter."""
    try:
        return load_header(command.value["model_path"]).task
    except (StorageError, DataError) as error:
        remedy = error.remedy or "give the address of a model bundle, or of a run that holds one"
        place = f"-Dmodel_path={storage.Address.parse(command.value['model_path'])}"
        raise type(error)(error.code, error.message, field=place, remedy=remedy) from error


def _number(command: PaiCommand, name: str, default: int, low: int) -> int:
    text = command.get(name) or str(default)
    if not text.isdecimal() or int(text) < low:
        raise SpecError("spec.value", f"{text!r}: expected a whole number, {low} or more", field=f"-D{name}")
    return int(text)
