"""`-name easy_vision_ext`: trainings and conversions, each as the job of Kinsight that it stands for."""

from typing import Any

from kinsight import storage
from kinsight.compat.flags import Values
from kinsight.compat.pai.machine import asked_of, machine_for
from kinsight.compat.pai.parameters import CONVERT_CONFIG, OWN_CONFIG, PARAM_CONFIG, listed
from kinsight.compat.pai.training import fitted, say_size, train_spec
from kinsight.compat.pai.words import PaiCommand
from kinsight.compat.words import Words
from kinsight.errors import SpecError
from kinsight.progress import say, warn
from kinsight.specs.flags import load_yaml, resolve
from kinsight.specs.load import as_yaml
from kinsight.specs.train import TrainSpec

_TOLD = "validate.classes"  # what is told of a model, not what it is
TRAINING_WORDS = Words(
    {
        "task": "--model_type",
        "model.backbone": "--backbone",
        "model.pretrained": "--use_pretrained_model",
        "model.init_from": "--pretrained_model",
        "data.num_classes": "--num_classes",
        "num_classes": "--num_classes",
        "data.image_size": "--image_size",
        "image_size": "--image_size",
        "data.train": "--train_data",
        "data.train.path": "--train_data",
        "data.validation": "--test_data",
        "data.validation.path": "--test_data",
        "label_map": "--label_map_path",
        "label_offset": "--label_offset",
        "data.train.label_offset": "--label_offset",
        "data.validation.label_offset": "--label_offset",
        "data.workers": "--train_num_readers",
        "optimizer.lr": "--initial_learning_rate",
        "schedule.gamma": "--decay_factor",
        "schedule.power": "--power",
        "schedule.learning_rates": "--learning_rates",
        "batch.size": "--train_batch_size",
        "validate.batch_size": "--test_batch_size",
        "output": "--model_dir",
        "epochs": "--num_epochs",
    },
    words_of_english=["task", "output", "epochs", "label_map", "num_classes", "image_size"],
)


def train(command: PaiCommand, dry_run: bool, overwrite: bool) -> None:
    """Train, then measure the model on the test data. Raises KinsightError."""
    if command.get("config") is not None:
        _train_config(command, dry_run, overwrite)
        return
    values = listed(command, "param_config", [*PARAM_CONFIG, *OWN_CONFIG])
    machine = machine_for(asked_of(command))
    with TRAINING_WORDS.used():
        spec = train_spec(values, machine)
        if dry_run:
            print(as_yaml(spec), end="")
            return
        say_size(values)
        _run(spec, values, overwrite)


def _train_config(command: PaiCommand, dry_run: bool, overwrite: bool) -> None:
    """-Dconfig: settings of `kinsight train`. EasyVision's own configuration format is not published."""
    if command.get("param_config") is not None:
        raise SpecError("pai.config", "has no effect beside -Dconfig", field="-Dparam_config", remedy="leave one out")
    settings = _settings(command.value["config"])
    spec = resolve(TrainSpec, [], settings)
    assert isinstance(spec, TrainSpec)
    spec = _on_machine(spec, settings, command)
    if dry_run:
        print(as_yaml(spec), end="")
        return
    from kinsight.training import train as train_job

    train_job(spec, overwrite=overwrite)


def _on_machine(spec: TrainSpec, settings: dict[str, Any], command: PaiCommand) -> TrainSpec:
    """What -Dcluster and -DgpuRequired ask for, as far as the file leaves it open; what wins over them is said."""
    asking = [f"-D{name}" for name in ("gpuRequired", "cluster") if command.get(name) is not None]
    fixed = {name: settings[name] for name in ("device", "nproc") if settings.get(name) not in (None, "auto")}
    if asking and fixed:
        told = " and ".join(f"{name} {value}" for name, value in fixed.items())
        warn(f"{' and '.join(asking)}: the settings of -Dconfig say {told}, which counts")
    if not asking or len(fixed) == 2:
        return spec
    machine = machine_for(asked_of(command))
    found = {"device": machine.device, "nproc": machine.ranks}
    return spec.model_copy(update={name: value for name, value in found.items() if name not in fixed})


def _settings(file: str) -> dict[str, Any]:
    try:
        return load_yaml(storage.read_text(file), file)
    except SpecError as error:
        remedy = "EasyVision's own format is not published: give settings of `kinsight train`, such as --dry-run prints"
        raise SpecError(error.code, error.message, field=f"-Dconfig: {file}", remedy=remedy) from None


def _run(spec: TrainSpec, values: Values, overwrite: bool) -> None:
    from kinsight.compat.pai.evaluating import evaluate
    from kinsight.training import train as train_job
    from kinsight.training.images import read_training_records

    spec = fitted(spec, values, len(read_training_records(spec)))
    if overwrite or not is_finished(spec):
        train_job(spec, overwrite=overwrite)
    else:
        say(f"trained     {spec.output} holds this very training: measuring it")
    evaluate(spec, values)


def is_finished(spec: TrainSpec) -> bool:
    """Whether the output holds this training, complete: what is left to do is to measure it."""
    from kinsight.training.run_folder import HEADER, SPEC
    from kinsight.training.run_settings import other_settings, parse_settings
    from kinsight.training.setup import settled

    output = storage.Address.parse(spec.output)
    if not storage.exists(output.child(HEADER)) or not storage.exists(output.child(SPEC)):
        return False
    before = parse_settings(storage.read_text(output.child(SPEC)), str(output.child(SPEC)))
    others = other_settings(before, settled(spec))
    return all(other.startswith(_TOLD) for other in others)


def convert(command: PaiCommand, dry_run: bool, overwrite: bool) -> None:
    """Make TFRecords. Raises KinsightError."""
    from kinsight.compat.pai.converting import convert_spec, run

    values = listed(command, "convert_param_config", CONVERT_CONFIG)
    spec = convert_spec(command, values)
    if dry_run:
        print(as_yaml(spec), end="")
        return
    run(spec, overwrite)
