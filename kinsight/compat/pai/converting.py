"""`-Dcmd convert`: a `convert` job from a label file to TFRecords."""

from typing import Any

from kinsight import storage
from kinsight.compat.flags import Values
from kinsight.compat.pai.machine import asked_of
from kinsight.compat.pai.parameters import at_least, one_of
from kinsight.compat.pai.words import PaiCommand
from kinsight.compat.words import Words
from kinsight.errors import SpecError
from kinsight.specs.convert import ConvertSpec
from kinsight.specs.flags import check

_WORDS = Words(
    {
        "data": "-Dlabel_file",
        "data.path": "-Dlabel_file",
        "output": "-Doutput_tfrecord",
        "prefix": "-Doutput_tfrecord",
        "classes": "--class_list_file",
        "max_image_size": "--max_image_size",
        "workers": "--write_parallel_num",
        "per_file": "--num_samples_per_tfrecord",
        "test_ratio": "--test_ratio",
    },
    words_of_english=["data", "output", "prefix", "classes", "workers"],
)


def convert_spec(command: PaiCommand, values: Values) -> ConvertSpec:
    """The conversion that the parameters stand for. Raises SpecError."""
    one_of(values, "model_type", ("CLASSIFICATION",))
    at_least(values, 1, "write_parallel_num", "num_samples_per_tfrecord")
    labels = command.value["label_file"]
    is_manifest = labels.lower().endswith((".manifest", ".json", ".jsonl"))
    folder, prefix = _split(command.value["output_tfrecord"])
    tree: dict[str, Any] = {
        "data": {"format": "itag" if is_manifest else "easyvision-csv", "path": labels},
        "output": folder,
        "prefix": prefix,
        "to": {"kind": "tfrecord"},
        "classes": values["class_list_file"],
        "max_image_size": values["max_image_size"],
        "workers": values["write_parallel_num"] * asked_of(command).workers,
        "per_file": values["num_samples_per_tfrecord"],
        "test_ratio": values["test_ratio"],
        "unlabelled": "leave-out",  # with a warning: the command has no word for what else to do with them
    }
    with _WORDS.used():
        spec = check(ConvertSpec, tree)
    assert isinstance(spec, ConvertSpec)
    return spec


def _split(output: str) -> tuple[str, str]:
    """The folder, and the beginning of the files' names."""
    place = storage.Address.parse(output)
    if output.endswith("/"):
        return output, ""
    if not place.is_local and not place.path:
        remedy = f"write {output}/FOLDER/NAME"
        raise SpecError("pai.output", f"{output} is a bucket", field="-Doutput_tfrecord", remedy=remedy)
    return str(place.parent), f"{place.name}_"


def run(spec: ConvertSpec, overwrite: bool) -> None:
    """Convert. Raises KinsightError."""
    from kinsight.converting import convert

    with _WORDS.used():
        convert(spec, overwrite=overwrite)
