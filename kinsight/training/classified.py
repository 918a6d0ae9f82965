"""The figures that the best model of a training of classes or labels is chosen by."""

import numpy as np
import torch
from torch import Tensor

from kinsight.data import Records
from kinsight.data.multi_hot import MultiHot
from kinsight.metrics import classification_metrics, multilabel_metrics
from kinsight.specs.tasks import Task


def truth(task: Task, records: Records, index_N: np.ndarray) -> Tensor:
    """What these records show: int64 classes (N,), or int8 (N, C) of labels with -1 for unknown."""
    return torch.from_numpy(MultiHot(records)[index_N] if task == "multilabel" else records.label_N[index_N])


def class_metrics(logits_NC: Tensor, target: Tensor) -> dict[str, float]:
    """The usual figures of one class an image, target (N,), or of many labels, target (N, C); a label is predicted from
    a probability of a half on. Raises DataError.
    """
    if target.ndim == 1:
        ks = [k for k in (1, 5) if k < logits_NC.shape[1]]
        return classification_metrics(logits_NC, target, ks=ks or [1]).means
    return multilabel_metrics(logits_NC.sigmoid(), target).means
