"""What the four scripts share: lists, image size, device, the lines they print."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from kinsight import storage
from kinsight.compat.flags import Values
from kinsight.errors import DataError, SpecError
from kinsight.progress import say, warn
from kinsight.specs.data import ImageSpec, Sop

TRAIN_LIST, TEST_LIST = "Ebay_train.txt", "Ebay_test.txt"
WORKERS = 8  # processes that read images in the scripts
# The centre square whose side is the shorter one of the image: the next number below 1, which would squeeze the whole.
_SHORTER_SIDE = 0.99999
_FETCHED = Path("data/sop/files/Stanford_Online_Products/Stanford_Online_Products")


def begin(values: Values) -> None:
    """Print the arguments as the scripts do, and warn of those that mean nothing here."""
    print("-----------  Configuration Arguments -----------")
    for name, value in sorted(values.value.items()):
        print(f"{name}: {value}")
    print("------------------------------------------------", flush=True)
    if (folder := _data_folder(values)) != values["data_dir"]:
        say(f"data        {values['data_dir']} is not there: reading {folder}, where `kinsight data get sop` put it")
    without_effect(values.given_of("with_mem_opt", "enable_ce"), "here")


def without_effect(flags: Sequence[str], where: str) -> None:
    """One warning for flags that were given in vain."""
    if flags:
        warn(f"{', '.join(flags)}: no effect {where}")


def stamp(seconds: float | None = None) -> str:
    """A moment as the scripts print it in brackets; now, by default."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def at_least(values: Values, low: int, *names: str) -> None:
    """Raises SpecError for a number below `low`."""
    for name in names:
        if values[name] < low:
            raise SpecError("spec.value", f"{values[name]}: must be at least {low}", field=f"--{name}")


def listed(values: Values, name: str) -> Sop:
    """A list of the data set. Raises DataError where it is not."""
    text = _data_folder(values)
    folder = storage.Address.parse(text)
    if not storage.exists(folder.child(name)):
        raise DataError(
            "data.absent",
            f"{folder} has no {name}"
            if storage.is_directory(folder)
            else f"{folder}: no such folder" + ("" if "data_dir" in values.given else f", nor is there {_FETCHED}"),
            field="--data_dir",
            remedy=f"give --data_dir={_FETCHED}, which is there"
            if (_FETCHED / name).exists()
            else f"give the folder that holds {TRAIN_LIST}, {TEST_LIST} and the super-classes' folders; "
            f"`kinsight data get sop` fetches it, to {_FETCHED}",
        )
    return Sop(path=f"{text.rstrip('/')}/{name}")


def _data_folder(values: Values) -> str:
    """`--data_dir`; where it is neither given nor there, the folder that the data set was fetched to, if that is."""
    folder = _not_empty(values, "data_dir")
    fetched_alone = "data_dir" not in values.given and not Path(folder).exists() and _FETCHED.is_dir()
    return str(_FETCHED) if fetched_alone else folder


def _not_empty(values: Values, name: str) -> str:
    if not values[name]:
        raise SpecError("spec.value", "is empty", field=f"--{name}", remedy="set the shell variable it is made of")
    return values[name]


def save_folder(values: Values) -> str:
    """`{model_save_dir}/{model}`."""
    return f"{_not_empty(values, 'model_save_dir').rstrip('/')}/{values['model']}"


def image(values: Values) -> ImageSpec:
    """How an image becomes a tensor: the shorter side to the size, then the centre. Raises SpecError."""
    parts = [part.strip() for part in values["image_shape"].split(",")]
    if len(parts) != 3 or parts[0] != "3" or parts[1] != parts[2] or not parts[1].isdecimal():
        raise SpecError(
            "spec.value",
            f"{values['image_shape']!r}: expected three colours and a square, as in 3,224,224",
            field="--image_shape",
        )
    size = int(parts[1])
    if not 8 <= size <= 4096:
        raise SpecError("spec.value", f"{size} pixels: expected 8 to 4096", field="--image_shape")
    return ImageSpec(image_size=size, crop=_SHORTER_SIDE)


def device(values: Values) -> str:
    """`cuda` or `cpu`; a GPU that was asked for and is not there is said once."""
    if not values["use_gpu"]:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    warn("use_gpu=True, but this machine has no GPU that torch can use: computing on the CPU")
    return "cpu"


def workers() -> int:
    """Processes that read images."""
    return min(WORKERS, os.cpu_count() or 1)
