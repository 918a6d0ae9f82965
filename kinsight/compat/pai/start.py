"""`--pretrained_model` and `--use_pretrained_model`: what a training starts from."""

import re
from typing import Any

from kinsight import storage
from kinsight.compat.flags import Values
from kinsight.errors import DataError, StorageError
from kinsight.models.artefact import HEADER
from kinsight.progress import warn

_TENSORFLOW = re.compile(r".*\.(index|meta|data-\d+-of-\d+|pb)|checkpoint|saved_model\.pb")


def start_of(values: Values) -> dict[str, Any]:
    """Settings of `model`. Published weights unless told otherwise: as KINSIGHT_WEIGHTS or the hub has them.

    Raises DataError for TensorFlow's files and what is no model, StorageError where nothing is.
    """
    text = values["pretrained_model"]
    if not values["use_pretrained_model"]:
        if text:
            warn("--pretrained_model: no effect with --use_pretrained_model false")
        return {"pretrained": None}
    if not text:
        return {"pretrained": "default"} if "use_pretrained_model" in values.given else {}
    place = storage.Address.parse(text)
    _refuse_tensorflow(place, values["backbone"])
    if any(storage.exists(place.child(name)) for name in (HEADER, f"bundle/{HEADER}")):
        return {"init_from": text, "pretrained": None}
    if storage.is_directory(place):
        what = "holds no model: neither a training's --model_dir nor a bundle"
        raise DataError("compat.no-model", what, field=f"--pretrained_model={place}", remedy=_REMEDY)
    if not storage.exists(place):
        raise StorageError("storage.not-found", "nothing is there", field=f"--pretrained_model={place}", remedy=_REMEDY)
    return {"pretrained": text}


_REMEDY = "give a training's --model_dir, a bundle, or a weights file (safetensors or torch)"


def _refuse_tensorflow(place: storage.Address, backbone: str) -> None:
    beside = place.parent.child(f"{place.name}.index")
    absent = place.name.endswith(".ckpt") and not storage.exists(place)
    if absent or _TENSORFLOW.fullmatch(place.name) or (not place.name.endswith((".pth", ".pt")) and _there(beside)):
        raise DataError(
            "compat.tensorflow-weights",
            "TensorFlow's checkpoints are not read here",
            field=f"--pretrained_model={place}",
            remedy=f"leave it out, and published weights of {backbone} are taken; or give a weights file (safetensors "
            "or torch) of this network, or the --model_dir of a training",
        )


def _there(place: storage.Address) -> bool:
    return place.scheme not in ("http", "https") and storage.exists(place)
