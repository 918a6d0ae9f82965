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

NEIGHBOURS = 10
_BLOCK = 4096
_SHARPNESS = 10.0  # of cosine similarity: a neighbour 0.1 less similar than the nearest has 1/e of its weight


@dataclass(frozen=True)
class WrongLabels:
    """Images in order of how sure the neighbours are. image_P: numbers; label_P: the label that they have; lead_P: its
    share of the neighbours' votes over that of the image's own label, -1 to 1. looked_at: images that could be judged.
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
        label_M, lead_M = votes(emb_MD[own], key_M)
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


def votes(
    emb_ND: torch.Tensor, label_N: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each item the other label with most votes among its neighbours, and its lead over the item's own label.

    emb_ND: unit rows. Neighbours' votes weigh less the less similar they are; the lead is a share of all votes.
    """
    count = len(emb_ND)
    best_N, lead_N = np.full(count, -1, np.int64), np.full(count, -1.0, np.float32)
    k = min(NEIGHBOURS, count - 1)
    if k < 1:
        return best_N, lead_N
    label = torch.from_numpy(label_N)
    for start in range(0, count, _BLOCK):
        own_Q = torch.arange(start, min(start + _BLOCK, count))
        alike_QK, index_QK = topk(emb_ND[own_Q], emb_ND, k, exclude=own_Q)
        weight_QK = torch.exp(_SHARPNESS * (alike_QK - alike_QK[:, :1]))
        weight_QK /= weight_QK.sum(1, keepdim=True)
        label_QK = label[index_QK]
        share_QK = (weight_QK[:, None, :] * (label_QK[:, :, None] == label_QK[:, None, :])).sum(2)
        same_QK = label_QK == label[own_Q][:, None]
        mine_Q = (weight_QK * same_QK).sum(1)
        other_Q, place_Q = share_QK.masked_fill(same_QK, -1.0).max(1)
        here = slice(start, start + len(own_Q))
        found_Q = other_Q > 0
        lead_N[here] = torch.where(found_Q, other_Q - mine_Q, -1.0).numpy()
        best_N[here] = label_QK.gather(1, place_Q[:, None])[:, 0].numpy()
    return best_N, lead_N
