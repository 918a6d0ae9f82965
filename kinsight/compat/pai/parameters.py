"""Every documented parameter with its default: those after -D, and those within -Dparam_config."""

import difflib
import shlex
from dataclasses import dataclass

from kinsight.compat.flags import Flag, Values, parse
from kinsight.compat.pai.words import PaiCommand
from kinsight.errors import SpecError
from kinsight.progress import warn

TRAINING, PREDICTION = "easy_vision_ext", "ev_predict_ext"


@dataclass(frozen=True)
class Parameter:
    """One -D parameter. needed: for which -Dcmd it must be given. of: for which it is; empty: for all."""

    name: str
    help: str
    needed: tuple[str, ...] = ()
    of: tuple[str, ...] = ()


_ANYWHERE = [
    Parameter("buckets", "BUCKET.HOST/PATH, with or without oss://, several by commas: where buckets are"),
    Parameter("arn", "role for access to OSS: no role is taken here, keys come from the environment"),
    Parameter("ossHost", "host of OSS; default: that of -Dbuckets, then OSS_ENDPOINT"),
    Parameter("host", "the same"),
    Parameter("gpuRequired", "GPUs of each worker in hundredths [100]; 0: the CPU", of=("train", "predict")),
    Parameter("cpuRequired", "cores of each worker in hundredths; no effect here"),
]

EASY_VISION = [
    *_ANYWHERE,
    Parameter("cmd", "train or convert", ("train", "convert")),
    Parameter("param_config", "train: parameters of a training, as below", of=("train",)),
    Parameter("config", "train: settings of `kinsight train` as YAML, instead of -Dparam_config", of=("train",)),
    Parameter("cluster", 'JSON: {"ps": {"count": 1}, "worker": {"count": 3, "gpu": 100}}; workers become ranks'),
    Parameter("label_file", "convert: labels, as CSV or an iTAG manifest", ("convert",), of=("convert",)),
    Parameter("convert_param_config", "convert: parameters of a conversion, as below", of=("convert",)),
    Parameter("output_tfrecord", "convert: beginning of the TFRecord files' names", ("convert",), of=("convert",)),
]  # fmt: skip

EV_PREDICT = [
    *_ANYWHERE,
    Parameter("model_path", "a trained model: the --model_dir of a training, or a bundle", ("predict",)),
    Parameter("model_type", "classifier, multilabel_classifier or feature_extractor", ("predict",)),
    Parameter("input_oss_file", "text file with an image's address on each line", ("predict",)),
    Parameter("output_oss_file", "file for the results, a line each", ("predict",)),
    Parameter("image_type", "url: the only one outside MaxCompute [url]"),
    Parameter("feature_name", "a network's layer; here the embedding is what is written"),
    Parameter("num_worker", "processes that read images [2]"),
    Parameter("batch_size", "images of a pass [64]"),
]

PARAM_CONFIG = [
    Flag("model_type", str, None, "Classification or MultiLabelClassification; must be given"),
    Flag("backbone", str, "inception_v4", "network: lenet, cifarnet, alexnet, vgg_16, ..., or any other"),
    Flag("num_classes", int, None, "number of labels; must be given"),
    Flag("image_size", int, 224, "side of the images that the network sees, in pixels"),
    Flag("use_crop", bool, True, "crop images at random in training; else they are seen whole"),
    Flag("eval_each_category", bool, False, "measure each label for itself"),
    Flag("optimizer", str, "momentum", "momentum or adam"),
    Flag("lr_type", str, "exponential_decay", "exponential_decay, polynomial_decay, manual_step or cosine_decay"),
    Flag("initial_learning_rate", float, 0.01, "learning rate at first"),
    Flag("decay_epochs", int, [20], "exponential_decay: epochs of one decay; manual_step: when to change", many=True),
    Flag("decay_factor", float, 0.95, "exponential_decay: factor"),
    Flag("staircase", bool, True, "exponential_decay: at once every decay_epochs, not little by little"),
    Flag("power", float, 0.9, "polynomial_decay: exponent"),
    Flag("learning_rates", float, None, "manual_step: the rates from decay_epochs on", many=True),
    Flag("train_data", str, None, "TFRecords to learn from, with * and ?; must be given"),
    Flag("test_data", str, None, "TFRecords to test with; must be given"),
    Flag("train_batch_size", int, None, "images of a step of each worker; must be given"),
    Flag("test_batch_size", int, None, "images of a pass in tests; must be given"),
    Flag("train_num_readers", int, 4, "processes that read training images"),
    Flag("model_dir", str, None, "folder for the model; must be given"),
    Flag("pretrained_model", str, None, "a run, a bundle or a weights file (safetensors, torch) to start from"),
    Flag("use_pretrained_model", bool, True, "start from trained weights; without pretrained_model: published ones"),
    Flag("num_epochs", int, None, "passes over the training images; must be given"),
    Flag("num_test_example", int, -1, "test images measured in training, the first so many; -1: all"),
    Flag("num_visualizations", int, 10, "test images shown on the page of the evaluation"),
    Flag("save_checkpoint_epochs", int, 1, "epochs between checkpoints"),
    Flag("num_train_images", int, 0, "number of training images; 0: counted"),
    Flag("label_map_path", str, None, "names of labels: pbtxt, text or JSON"),
]  # fmt: skip

OWN_CONFIG = [
    Flag("label_offset", int, 0, "what the first label's number is in the TFRecords (not PAI's parameter)"),
]
"""Beside those of PAI's page."""

CONVERT_CONFIG = [
    Flag("class_list_file", str, None, "names of labels, in order; default: all of the label file, sorted"),
    Flag("max_image_size", int, None, "longest side; larger images are made smaller"),
    Flag("write_parallel_num", int, 1, "processes that write"),
    Flag("num_samples_per_tfrecord", int, 128, "images of a file"),
    Flag("test_ratio", float, 0.0, "share of the images that goes into test files"),
    Flag("model_type", str, "CLASSIFICATION", "CLASSIFICATION: images of one label or several"),
]


def checked(command: PaiCommand, known: list[Parameter], task: str) -> None:
    """Every parameter is known and for this `task`, and those that it needs are there. Raises SpecError."""
    names = [each.name for each in known]
    for name in command.value:
        if name not in names:
            raise SpecError(
                "spec.unknown-flag", f"{command.name} has no -D{name}{_near(name, names, '-D')}", remedy=_HELP
            )
    if not any(task in each.needed for each in known):
        return  # no task at all, which is said elsewhere
    for each in known:
        if task in each.needed and each.name not in command.value:
            raise SpecError("spec.needed", "must be given", field=f"-D{each.name}", remedy=f"{each.name}: {each.help}")
        if each.of and task not in each.of and each.name in command.value:
            _in_vain(each, task)


def _in_vain(parameter: Parameter, task: str) -> None:
    """A parameter of another command: those that stand before every command are only said. Raises SpecError."""
    if parameter in _ANYWHERE:
        warn(f"-D{parameter.name}: no effect with -Dcmd {task}")
        return
    raise SpecError(
        "spec.no-effect",
        f"has no effect with -Dcmd {task}",
        field=f"-D{parameter.name}",
        remedy=f"leave it out: it belongs to -Dcmd {' or '.join(parameter.of)}",
    )


def listed(command: PaiCommand, parameter: str, flags: list[Flag]) -> Values:
    """The parameters within one, as argparse reads them. Raises SpecError."""
    try:
        words = shlex.split(command.get(parameter) or "")
    except ValueError:
        what = "has a quote that is not closed"
        raise SpecError("pai.quotes", what, field=f"-D{parameter}", remedy="leave quotes out of it") from None
    try:
        return parse(f"-D{parameter}", flags, words)
    except SpecError as error:
        field = error.field or f"-D{parameter}"
        remedy = _HELP if error.code == "spec.unknown-flag" else error.remedy
        raise SpecError(error.code, error.message, field=field, remedy=remedy) from None


def needed(values: Values, *names: str) -> None:
    """Raises SpecError naming the first of these that is not there."""
    for name in names:
        if values[name] is None or values[name] == "":
            raise SpecError(
                "spec.needed", "must be given", field=f"--{name}", remedy=f"write --{name} VALUE into {values.script}"
            )


def one_of(values: Values, name: str, known: dict[str, str] | tuple[str, ...]) -> str:
    """The value as it is documented, whatever its case. Raises SpecError for another one, with the nearest."""
    spellings = {each.lower(): each for each in known}
    text = str(values[name])
    if text.lower() not in spellings:
        near = _near(text.lower(), list(spellings), "", spellings)
        raise SpecError("spec.value", f"{text!r}: expected {' or '.join(known)}{near}", field=f"--{name}")
    return spellings[text.lower()]


def at_least(values: Values, low: float, *names: str) -> None:
    """Raises SpecError for a number below `low`."""
    for name in names:
        if values[name] is not None and values[name] < low:
            raise SpecError("spec.value", f"{values[name]}: must be at least {low}", field=f"--{name}")


def _near(name: str, known: list[str], mark: str, shown: dict[str, str] | None = None) -> str:
    lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), list(lower), n=1)
    best = lower[found[0]] if found else None
    return "" if best is None else f"; did you mean {mark}{shown[best] if shown else best}?"


_HELP = "kinsight pai --help lists them"
