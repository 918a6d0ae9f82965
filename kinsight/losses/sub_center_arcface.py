"""Sub-centre ArcFace: several centres a class, so that wrongly labelled images gather at one of their own."""

from typing import NamedTuple

import torch
from torch import Tensor

from kinsight.losses.arcface import angle_margin
from kinsight.losses.head import ClassHead, LinearForm
from kinsight.losses.numerics import unit_rows, wide_dtype, without_autocast
from kinsight.losses.settings import require_like
from kinsight.specs import class_losses as specs

_ROWS = 4096


class DominantCentres(NamedTuple):
    """centre_C: int64 (C,), each class's sub-centre nearest to most of its images; -1 without images.

    angle_deg_N: (N,), of each image to its class's dominant sub-centre, 0 to 180.
    """

    centre_C: Tensor
    angle_deg_N: Tensor


class SubCenterArcFace(ClassHead):
    """ArcFace where cos(theta_j) is the largest of the cosines with the K sub-centres of class j. Deng et al. 2020.

    centres: K, from 2. margin_deg: m in degrees, 0 to 90. scale: s.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        centres: int = 3,
        margin_deg: float = 28.6,
        scale: float = 64.0,
        seed: int = 0,
    ) -> None:
        require_like(specs.SubCenterArcFace, centres=centres, margin_deg=margin_deg, scale=scale)
        margin = angle_margin(margin_deg)
        super().__init__(
            num_classes, embedding_dim, scale=scale, margin=margin, seed=seed, centres=centres, pool=_largest
        )

    def _pooled(self, form: LinearForm) -> LinearForm:
        return form._replace(pool="max")

    @torch.no_grad()
    def dominant_centres(self, emb_ND: Tensor, target: Tensor) -> DominantCentres:
        """Where most images of a class gather, and how far each image is from there: the far ones may be wrong.

        The paper drops those beyond 75 degrees and trains anew with plain ArcFace. Pass all images of a class at once.
        emb_ND: any floating dtype and lengths; a row of length 0 is at 90 degrees. target: int64 class ids (N,).
        Raises what `forward` raises.
        """
        label_N = self._labels(emb_ND, target)
        self._check_lengths(emb_ND)
        parts = zip(emb_ND.split(_ROWS), label_N.split(_ROWS), strict=True)
        cos_NK = torch.cat([self._own_cosines(*part) for part in parts])
        nearest_N = label_N * self.centres + cos_NK.argmax(1)
        count_CK = nearest_N.bincount(minlength=self.num_classes * self.centres).view(-1, self.centres)
        most_C, centre_C = count_CK.max(1)
        cos_N = cos_NK.gather(1, centre_C[label_N][:, None]).squeeze(1)
        return DominantCentres(torch.where(most_C > 0, centre_C, -1), torch.rad2deg(torch.acos(cos_N.clamp(-1, 1))))

    def _own_cosines(self, emb_BD: Tensor, label_B: Tensor) -> Tensor:
        """With the sub-centres of the own class: (B, K)."""
        dtype = wide_dtype(emb_BD, self.weight_CD)
        rows = unit_rows(self.weight_CD.to(dtype)).unflatten(0, (-1, self.centres))
        with without_autocast(emb_BD):
            return torch.bmm(rows[label_B], unit_rows(emb_BD.to(dtype))[:, :, None]).squeeze(2)


def _largest(logits_BCK: Tensor) -> Tensor:
    return logits_BCK.amax(2)
