"""What `--pretrained_model` names: a model of ours, a weights file, nothing; Paddle's own files are refused."""

import re
from dataclasses import dataclass

from kinsight import storage
from kinsight.compat.flags import Values
from kinsight.errors import DataError, SpecError, StorageError
from kinsight.models import BundleHeader, load_header
from kinsight.models.artefact import HEADER
from kinsight.models.names import resolve
from kinsight.progress import warn

PUBLISHED = "default"
_FILES = re.compile(r".*\.(pdparams|pdopt|pdmodel|pdiparams)")
# Of the times before those: a folder with a file for each variable.
_VARIABLES = re.compile(r"__model__|__params__|@LR_DECAY_COUNTER@|.*(_weights|_scale|_offset)|fc_\d+\.[wb]_\d+")


@dataclass(frozen=True)
class Start:
    """bundle: address of one of our models, and its header. weights: of a weights file, or `default`.

    Neither: random.
    """

    bundle: str | None = None
    header: BundleHeader | None = None
    weights: str | None = None


def start_of(values: Values) -> Start:
    """What `--pretrained_model` stands for, fitting the other flags.

    Raises DataError for Paddle's files and what is no model, SpecError for a model that the flags do not describe,
    StorageError where nothing is.
    """
    check_backbone(values)
    text = values["pretrained_model"]
    if not text:
        if "pretrained_model" in values.given:
            warn("--pretrained_model is empty: is a shell variable not set? It counts as not given")
        return Start()
    place = storage.Address.parse(text)
    refuse_paddle(place, "pretrained_model")
    if any(storage.exists(place.child(name)) for name in (HEADER, f"bundle/{HEADER}")):
        header = load_header(text)
        _check_fits(values, header)
        return Start(bundle=text, header=header)
    if storage.is_directory(place):
        what = "holds no model: neither an iteration saved by the training scripts nor a bundle"
        raise DataError("compat.no-model", what, field=f"--pretrained_model={place}", remedy=_REMEDY)
    if not storage.exists(place):
        if text == PUBLISHED:
            return Start(weights=PUBLISHED)
        raise StorageError("storage.not-found", "nothing is there", field=f"--pretrained_model={place}", remedy=_REMEDY)
    return Start(weights=text)


_REMEDY = (
    "give MODEL_SAVE_DIR/MODEL/ITERATION, a bundle, a weights file (safetensors or torch), or "
    "--pretrained_model=default for the published ImageNet weights"
)


def refuse_paddle(place: storage.Address, flag: str) -> None:
    """Raises DataError for weights in Paddle's own formats."""
    known = _FILES.fullmatch(place.name) is not None or storage.exists(place.parent.child(f"{place.name}.pdparams"))
    if not known and storage.is_directory(place):
        names = [entry.relative for entry in storage.list_files(place, recursive=False)]
        known = any(_FILES.fullmatch(name) or _VARIABLES.fullmatch(name) for name in names)
    if known:
        raise DataError(
            "compat.paddle-weights",
            "these are weights in Paddle's own format, which is not read here",
            field=f"--{flag}={place}",
            remedy="ImageNet weights: give a safetensors or torch file of this network, or --pretrained_model=default; "
            "a model that Paddle trained: train it again with `kinsight compat train_elem.py`",
        )


def check_backbone(values: Values) -> None:
    """Raises SpecError where `--model` names no network."""
    try:
        resolve(values["model"])
    except SpecError as error:
        raise SpecError(error.code, error.message, field="--model", remedy=error.remedy) from None


def _check_fits(values: Values, header: BundleHeader) -> None:
    model = header.model_spec()
    theirs, ours = (resolve(name).name for name in (model.backbone, values["model"]))
    if theirs != ours:
        raise SpecError(
            "compat.other-model",
            f"is a {model.backbone}, and --model is {values['model']}",
            field=f"--pretrained_model={storage.Address.parse(values['pretrained_model'])}",
            remedy=f"give --model={model.backbone}",
        )


def check_use(values: Values, start: Start) -> None:
    """For scripts that use a model as it is: it is what the flags say. Raises SpecError."""
    if start.header is None:
        return
    neck, size = start.header.model_spec().neck.kind, start.header.image_spec().image_size
    length = 0 if neck == "none" else start.header.embedding_dim
    if values["embedding_size"] != length:
        raise SpecError(
            "compat.other-embedding",
            f"{values['embedding_size']}, but the model was trained with {length}",
            field="--embedding_size",
            remedy=f"give --embedding_size={length}",
        )
    if "image_shape" in values.given and values["image_shape"] != f"3,{size},{size}":
        warn(f"--image_shape={values['image_shape']}: no effect, the model was trained with 3,{size},{size}")
