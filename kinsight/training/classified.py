"""The figures that the best model of a training of classes or labels is chosen by."""

import numpy as np
import torch
from torch import Tensor

from kinsight.data import Records
from kinsight.data.multi_hot import MultiHot
from kinsight.evaluation.classes import logits_of, rows_at_once, usable_ks
from kinsight.metrics import multilabel_metrics
from kinsight.metrics.classification import ranked_result, ranks, refuse_nan
from kinsight.models import Classifier
from kinsight.specs.tasks import Task

_KS = [5]


def truth(task: Task, records: Records, index_N: np.ndarray) -> Tensor:
    """What these records show: int64 classes (N,), or int8 (N, C) of labels with -1 for unknown."""
    return torch.from_numpy(MultiHot(records)[index_N] if task == "multilabel" else records.label_N[index_N])


def class_metrics(classifier: Classifier, emb_ND: Tensor, target: Tensor, *, wanted: str) -> dict[str, float]:
    """The usual figures of one class an image, target (N,), or of many labels, target (N, C); a label is predicted from
    a probability of a half on.

    classifier: on any device. wanted: the figure that the best model is chosen by; micro_map takes as long as all
    others together, and is there only where it is wanted. Raises DataError.
    """
    if target.ndim == 1:
        return _of_one_class(classifier, emb_ND, target)
    score_NC = logits_of(classifier, emb_ND).sigmoid_()
    return multilabel_metrics(score_NC, target, micro=wanted == "micro_map").means


def _of_one_class(classifier: Classifier, emb_ND: Tensor, label_N: Tensor) -> dict[str, float]:
    """A block of images at a time: all that is kept of its logits is where the true class stands among them."""
    place, parts, done = classifier.weight.device, [], 0
    rows = rows_at_once(classifier)
    for emb_BD, label_B in zip(emb_ND.split(rows), label_N.split(rows), strict=True):
        with torch.inference_mode():
            logit_BC = classifier(emb_BD.to(place))
            refuse_nan(logit_BC, first=done)
            parts.append([part_B.cpu() for part_B in ranks(logit_BC, label_B.to(place))])
        done += len(emb_BD)
    rank_N, predicted_N = (torch.cat(each) for each in zip(*parts, strict=True))
    classes = classifier.form.num_classes
    return ranked_result(rank_N, predicted_N, label_N, classes=classes, ks=usable_ks(_KS, classes)).means
