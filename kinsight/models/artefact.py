"""The model bundle on disk: `bundle.json` (its header, written last) and `model.safetensors`, at any address.

What is read back is read leniently: unknown fields are ignored, older versions are migrated dictionary to dictionary.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from kinsight import storage
from kinsight.errors import DataError, StorageError
from kinsight.models.classifier import ClassifierForm
from kinsight.models.state import State
from kinsight.models.thresholds import Thresholds
from kinsight.specs.data import ImageSpec
from kinsight.specs.model import ModelSpec
from kinsight.specs.stored import lenient

FORMAT = "kinsight-model-bundle"
VERSION = 2
HEADER = "bundle.json"
WEIGHTS = "model.safetensors"
# MIGRATIONS[n] turns a header of version n into one of version n + 1.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda content: {**content, "task": "metric"},  # there was no other
}
Task = Literal["metric", "classification", "multilabel"]


class BundleHeader(BaseModel):
    """What a bundle says of itself.

    model, image: the settings that rebuild the network. spec: the whole job that made it, for people.
    mean, std: per channel, in 0..1. metric: similarity that embeddings are meant for.
    task: what the model was trained for. classifier: form of what turns embeddings into logits of `class_names`; None
    in `metric`. temperature: divisor of the logits before softmax or sigmoid, found on validation images.
    label_thresholds: probability from which on an image shows a label, one a class; multilabel only.
    thresholds: similarities from which on two images count as the same, with their error rates.
    data_fingerprint: of the training records. data_sketch: hashes of some of their addresses (`data.sketch`).
    weights_source, weights_licence: of the weights that training started from.
    weights_sha256: of model.safetensors, in hex. kinsight: version that wrote it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    format: Literal["kinsight-model-bundle"] = FORMAT
    version: int = VERSION
    kinsight: str = ""
    model: dict[str, Any]
    image: dict[str, Any]
    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[float, ...] = Field(min_length=1)
    embedding_dim: int = Field(ge=1)
    metric: Literal["cosine", "l2", "ip"] = "cosine"
    task: Task = "metric"
    class_names: tuple[str, ...] = ()
    classifier: ClassifierForm | None = None
    temperature: float | None = Field(default=None, gt=0)
    label_thresholds: tuple[float, ...] | None = None
    thresholds: Thresholds | None = None
    data_fingerprint: str | None = None
    data_sketch: tuple[str, ...] = ()
    weights_source: str = "random"
    weights_licence: str | None = None
    weights_sha256: str = ""
    spec: dict[str, Any] | None = None

    def model_spec(self) -> ModelSpec:
        return lenient(ModelSpec.model_validate, self.model)

    def image_spec(self) -> ImageSpec:
        return lenient(ImageSpec.model_validate, self.image)

    @property
    def content_hash(self) -> str:
        """SHA-256, in hex, of everything that decides an image's vector: weights, structure, preprocessing.

        An index remembers it; class names, thresholds and the job do not change it.
        """
        model = self.model_spec().model_dump(include={"backbone", "pooling", "neck", "embedding_dim"})
        image = self.image_spec().model_dump()
        content = [model, image, self.mean, self.std, self.weights_sha256]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_artefact(address: storage.AddressLike, state: State, header: BundleHeader) -> BundleHeader:
    """Write weights, then the header with their hash; gives that header. Raises StorageError.

    An earlier bundle at the address loses its header first, so that header and weights always belong together.
    """
    place = storage.Address.parse(address)
    data = _serialized(state)
    complete = header.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest(), "version": VERSION})
    if storage.exists(place.join(HEADER)):
        storage.remove(place.join(HEADER))
    storage.write_bytes(place.join(WEIGHTS), data)
    text = json.dumps(complete.model_dump(mode="json"), indent=2, ensure_ascii=False)
    storage.write_text(place.join(HEADER), text + "\n")
    return complete


def write_thresholds(address: storage.AddressLike, thresholds: Thresholds) -> None:
    """Put thresholds into a finished bundle's header, and change nothing else. Raises as `read_artefact`."""
    _update(address, {"thresholds": thresholds.model_dump(mode="json")})


def write_calibration(
    address: storage.AddressLike,
    *,
    temperature: float | None = None,
    label_thresholds: Sequence[float] | None = None,
) -> None:
    """Put what validation images told of a classifier into a finished bundle's header, and change nothing else.

    None leaves what is there. Raises as `read_artefact`; DataError where the bundle has no classifier, or another
    number of classes.
    """
    header = load_header(address)
    if header.classifier is None:
        raise _bad_header(storage.Address.parse(address), "it has no classifier to calibrate")
    if label_thresholds is not None and len(label_thresholds) != header.classifier.num_classes:
        what = f"{len(label_thresholds)} thresholds for {header.classifier.num_classes} classes"
        raise _bad_header(storage.Address.parse(address), what)
    found = {"temperature": temperature, "label_thresholds": label_thresholds and [float(x) for x in label_thresholds]}
    _update(address, {name: value for name, value in found.items() if value is not None})


def _update(address: storage.AddressLike, fields: dict[str, Any]) -> None:
    place = _find(storage.Address.parse(address))
    read_header(place)
    content = _migrated(json.loads(storage.read_text(place.join(HEADER))), place)
    storage.write_text(place.join(HEADER), json.dumps(content | fields, indent=2, ensure_ascii=False) + "\n")


def load_header(address: storage.AddressLike) -> BundleHeader:
    """The header of the bundle at `address`, or in the run directory there. Raises as `read_artefact`."""
    return read_header(_find(storage.Address.parse(address)))


def read_artefact(address: storage.AddressLike) -> tuple[BundleHeader, State]:
    """Header and tensors of a bundle, or of the run directory that holds it as `bundle/`.

    Raises StorageError where nothing is, DataError for an incomplete, altered, foreign or newer bundle.
    """
    place = _find(storage.Address.parse(address))
    header = read_header(place)
    file = place.join(WEIGHTS)
    if not storage.exists(file):
        raise _incomplete(place, WEIGHTS)
    path = storage.copy_in(file)
    if _sha256(path) != header.weights_sha256:
        raise DataError(
            "bundle.altered",
            f"{file}: not the weights that {HEADER} was written for; truncated or altered",
            field=str(place),
            remedy="copy the bundle again, or write it anew from the run's checkpoint",
        )
    from safetensors.torch import load_file

    return header, load_file(path, device="cpu")


def read_header(place: storage.Address) -> BundleHeader:
    """The header in the bundle directory `place`, migrated to this version. Raises as `read_artefact`."""
    text = storage.read_text(place.join(HEADER))
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _bad_header(place, f"no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise _bad_header(place, f"format is {found!r}, not {FORMAT!r}")
    try:
        header = BundleHeader.model_validate(_migrated(content, place))
        header.model_spec()
        header.image_spec()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _bad_header(place, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return header


def _migrated(content: dict[str, Any], place: storage.Address) -> dict[str, Any]:
    version = content.get("version")
    if not isinstance(version, int) or version < 1:
        raise _bad_header(place, f"version is {version!r}, not a number from 1")
    if version > VERSION:
        raise DataError(
            "bundle.newer",
            f"version {version}, this Kinsight reads up to {VERSION}; written by Kinsight {content.get('kinsight')}",
            field=str(place.join(HEADER)),
            remedy="use that version of Kinsight, or a later one",
        )
    while version < VERSION:
        content = MIGRATIONS[version](content)
        version += 1
        content["version"] = version
    return content


def _find(place: storage.Address) -> storage.Address:
    for candidate in (place, place.join("bundle")):
        if storage.exists(candidate.join(HEADER)):
            return candidate
    for candidate in (place, place.join("bundle")):
        if storage.exists(candidate.join(WEIGHTS)):
            raise _incomplete(candidate, HEADER)
    if storage.is_directory(place):
        raise _incomplete(place, HEADER)
    raise StorageError(
        "storage.not-found",
        "no model bundle there",
        field=f"bundle={place}",
        remedy="give the address of a bundle or of a run",
    )


def _incomplete(place: storage.Address, missing: str) -> DataError:
    return DataError(
        "bundle.incomplete",
        f"incomplete bundle: {missing} is missing",
        field=str(place),
        remedy="give a finished run or bundle; an interrupted one is finished by resuming its training",
    )


def _bad_header(place: storage.Address, what: str) -> DataError:
    return DataError(
        "bundle.header",
        f"not the header of a model bundle: {what}",
        field=str(place.join(HEADER)),
        remedy="give the address of a bundle that Kinsight wrote",
    )


def _serialized(state: State) -> bytes:
    from safetensors.torch import save

    return save({key: _plain(value) for key, value in sorted(state.items())})


def _plain(tensor: Tensor) -> Tensor:
    """A copy of its own in plain layout: the file knows no strides and no sharing."""
    return tensor.detach().cpu().contiguous().clone()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
