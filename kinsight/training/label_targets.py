"""What losses over labels read of each image, and how often training images show each class."""

import numpy as np
import torch
from torch import Tensor

from kinsight.data import Records
from kinsight.data.multi_hot import MultiHot
from kinsight.evaluation.targets import Targets, build_targets
from kinsight.losses import ClassCounts
from kinsight.relations import SameLabel
from kinsight.specs.train import TrainSpec


class LabelTargets:
    """Rows of 1 (shown), 0 (not shown), -1 (unknown), one cell a label, made for the images of a batch."""

    relation = SameLabel()  # of losses over pairs, of which there are none
    fingerprint = None  # the records' own says all

    def __init__(self, records: Records) -> None:
        self._rows = MultiHot(records)
        self.counts = ClassCounts(torch.from_numpy(records.count_C), torch.from_numpy(self._rows.known_C))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image's target."""
        return (self._rows.num_classes,)

    def words(self, records: Records) -> str:
        """For people: how many labels an image shows, and of how many nobody knows."""
        shown_N = np.diff(records.labels_csr[0])
        unknown = 1 - float(self.counts.known_C.double().mean()) / max(len(records), 1)
        bare = f", {int((shown_N == 0).sum()):,} images without any" if (shown_N == 0).any() else ""
        hidden = f", {100 * unknown:.3g} % unknown" if unknown > 0 else ""
        return f"{records.num_classes:,}, {shown_N.mean():.3g} an image{bare}{hidden}"

    def of(self, index_B: np.ndarray | Tensor) -> Tensor:
        """float32 (B, C) of these record numbers."""
        return torch.from_numpy(self._rows[np.asarray(index_B)]).float()


def targets_of(spec: TrainSpec, records: Records) -> Targets | LabelTargets:
    """What the losses of a training read. Raises DataError where the labels do not fit the task."""
    if spec.task == "multilabel":
        return LabelTargets(records)
    return build_targets(spec.relation, records)


def class_counts(spec: TrainSpec, records: Records, targets: Targets | LabelTargets) -> ClassCounts | None:
    """How often the classes occur; None in `metric`, where nothing goes by it."""
    if isinstance(targets, LabelTargets):
        return targets.counts
    if spec.task == "metric":
        return None
    return ClassCounts(torch.from_numpy(records.count_C), torch.full((records.num_classes,), len(records)))
