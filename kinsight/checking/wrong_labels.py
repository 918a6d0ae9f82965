"""Images whose nearest neighbours in a model's eyes carry another label."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from kinsight import progress
from kinsight.checking.joint import Joint
from kinsight.data import ImageLoader
from kinsight.evaluation.embedding import embed_records
from kinsight.evaluation.model import Model, load
from kinsight.neighbors import topk
from kinsight.specs.check import CheckSpec

NEIGHBOURS = 20
FEW = 3  # nearest neighbours of a kind whose mean similarity counts
_MATES = 4096  # images of one class that are looked at for the nearest
_LEAST_DISTANCE = 0.01
_BLOCK = 4096


@dataclass(frozen=True)
class WrongLabels:
    """Images in order of how sure the neighbours are. image_P: numbers; label_P: the label that most of them have;
    lead_P: by how much nearer others are than images of its own label, see `judge`. looked_at: images judged.
    """

    image_P: npt.NDArray[np.int64]
    label_P: npt.NDArray[np.int64]
    lead_P: npt.NDArray[np.float32]
    looked_at: int
    model: str


def wrong_labels(
    spec: CheckSpec, joint: Joint, usable_N: npt.NDArray[np.bool_], same_N: npt.NDArray[np.int64]
) -> WrongLabels:
    """Judge every image with one label by its neighbours among all such images of its set.

    same_N: equal for images with the same pixels: one of them votes for all, and copies do not vote for each other.
    Raises what `load` raises, and DataError for an unusable model.
    """
    assert spec.bundle is not None
    model = load(spec.bundle, device=spec.device, precision=spec.precision)
    single_N = usable_N & (joint.key_N >= 0)
    rows = [np.flatnonzero(single_N & (joint.set_N == part)) for part in range(len(joint.parts))]
    first = [row[np.sort(np.unique(same_N[row], return_index=True)[1])] for row in rows]
    wanted_M = np.concatenate(first)
    found_image, found_label, found_lead = [], [], []
    emb_MD, index_M = _embedded(spec, joint, model, wanted_M)
    for part in range(len(joint.parts)):
        own = np.flatnonzero(joint.set_N[index_M] == part)
        key_M = joint.key_N[index_M[own]]
        label_M, lead_M = judge(emb_MD[own], key_M)
        chosen = np.flatnonzero(lead_M >= spec.mislabelled)
        found_image.append(index_M[own][chosen])
        found_label.append(label_M[chosen])
        found_lead.append(lead_M[chosen])
    image_P, label_P, lead_P = (np.concatenate(one) for one in (found_image, found_label, found_lead))
    order = np.lexsort((image_P, -lead_P))
    return WrongLabels(image_P[order], label_P[order], lead_P[order], len(index_M), model.name)


def _embedded(
    spec: CheckSpec, joint: Joint, model: Model, wanted_M: npt.NDArray[np.int64]
) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    with (
        ImageLoader(joint.records, model.image, workers=spec.workers, labelled=False) as loader,
        progress.task("embed", len(wanted_M), "images") as task,
    ):
        found = embed_records(
            model.net,
            loader,
            model.device,
            model.arithmetic,
            batch_size=spec.batch_size,
            wanted_N=wanted_M,
            task=task,
        )
    emb_MD = torch.nn.functional.normalize(found.emb_ND, dim=1)
    real = emb_MD.any(1)
    return emb_MD[real], found.index_N[real.numpy()]


def judge(
    emb_ND: torch.Tensor, label_N: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each item the label that most of its nearest other neighbours have, and the lead of those neighbours.

    emb_ND: unit rows. The lead compares distances (1 - cosine): with d to the nearest few of the item's own label, and
    d' to the nearest few of other labels, it is (d - d') / d, at most 1, and -1 where an item is alone with its label.
    Neighbours alone would name every member of two classes that look alike; this names who is far from its own.
    """
    count = len(emb_ND)
    other_N, lead_N = np.full(count, -1, np.int64), np.full(count, -1.0, np.float32)
    own_N = _own_similarity(emb_ND, label_N)
    k = min(NEIGHBOURS, count - 1)
    if k < 1:
        return other_N, lead_N
    label = torch.from_numpy(label_N)
    for start in range(0, count, _BLOCK):
        row_Q = torch.arange(start, min(start + _BLOCK, count))
        alike_QK, index_QK = topk(emb_ND[row_Q], emb_ND, k, exclude=row_Q)
        label_QK = label[index_QK]
        strange_QK = label_QK != label[row_Q][:, None]
        first_QK = strange_QK & (strange_QK.cumsum(1) <= FEW)
        enough_Q = first_QK.sum(1) == min(FEW, k)
        other_Q = (alike_QK * first_QK).sum(1) / first_QK.sum(1).clamp_min(1)
        here = slice(start, start + len(row_Q))
        own_Q = own_N[here]
        lead_Q = (other_Q - own_Q) / (1 - own_Q).clamp_min(_LEAST_DISTANCE)
        lead_N[here] = torch.where(enough_Q & (own_Q > -1), lead_Q.clamp(-1, 1), -1.0).numpy()
        same_QKK = (label_QK[:, :, None] == label_QK[:, None, :]) & strange_QK[:, None, :]
        most_Q1 = (same_QKK.sum(2) * strange_QK).argmax(1, keepdim=True)
        other_N[here] = label_QK.gather(1, most_Q1)[:, 0].numpy()
    return other_N, lead_N


def _own_similarity(emb_ND: torch.Tensor, label_N: npt.NDArray[np.int64]) -> torch.Tensor:
    """Mean cosine to the nearest few with the same label; -1 for those alone with theirs.

    Of a large class an evenly spread part stands for all.
    """
    own_N = torch.full((len(emb_ND),), -1.0)
    order = torch.from_numpy(np.argsort(label_N, kind="stable"))
    ends = np.flatnonzero(np.diff(label_N[order.numpy()], append=-2)) + 1
    for start, stop in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        members = order[start:stop]
        if len(members) < 2:
            continue
        mates = members[torch.linspace(0, len(members) - 1, min(len(members), _MATES)).long()]
        for low in range(0, len(members), _BLOCK):
            part = members[low : low + _BLOCK]
            alike = emb_ND[part] @ emb_ND[mates].T
            alike[part[:, None] == mates] = -1.0
            own_N[part] = alike.topk(min(FEW, len(mates) - 1), 1).values.mean(1)
    return own_N
