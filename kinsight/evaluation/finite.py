"""Numbers of a model that are none: whoever is asked says so, instead of passing NaN on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kinsight.errors import DataError

NOT_FINITE = "the model gives numbers for it that are not finite"


def finite_rows(*parts_BX: Tensor | None) -> list[bool]:
    """For each image whether all that a model says of it, vectors or logits, is finite."""
    return torch.stack([part_BX.isfinite().all(1).cpu() for part_BX in parts_BX if part_BX is not None]).all(0).tolist()


def refuse_not_finite(names: Sequence[str], *parts_BX: Tensor | None) -> None:
    """Raise DataError naming the first image of which something else is said."""
    for name, finite in zip(names, finite_rows(*parts_BX), strict=True):
        if not finite:
            raise DataError(
                "model.not-finite",
                NOT_FINITE,
                field=name,
                remedy="look at the image; where it happens with others, too, the model has diverged or its weights "
                "are damaged",
            )
