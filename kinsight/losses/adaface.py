"""AdaFace: short embeddings, taken for images of low quality, stress easy images, long ones hard images."""

from functools import partial

import torch
from torch import Tensor

from kinsight.losses.by_length import LengthHead
from kinsight.losses.head import Everyone, Margin
from kinsight.losses.margins import shifted_angle
from kinsight.losses.numerics import nonzero, row_lengths
from kinsight.losses.settings import require_like
from kinsight.specs import class_losses as specs

_SHORTEST, _LONGEST = 1e-3, 100.0
_EPS = 1e-3


class AdaFace(LengthHead):
    """Cross-entropy with own logit s (cos(theta_y - m z) - (m + m z)), others s cos(theta_j). Kim et al. 2022, eq. 18.

    z = clip(h (|x| - mean) / deviation, -1, 1), without gradient (eq. 16 and 17). Mean and deviation of the lengths
    follow the batches of a training, those of all processes, and do so before they are used: value += t_alpha (the
    batch's - value). They are buffers, equal on all processes, and start, like the authors' code, from 20 and 100. As
    there, lengths are cut to 0.001 to 100, and 0.001 is added to the deviation. A batch of fewer than two images
    leaves them alone; a step computed in pieces sees all of its images at once.

    theta - m z stays within [0, pi]. Other than in the authors' code, no cosine is cut to +-0.999: gradients are finite
    without it.

    margin: m, 0 to 1; a quantity of angle (radians) and of cosine at once. h: above 0; larger spreads z to its ends.
    t_alpha: above 0, to 1. scale: s.
    """

    follows_batches = True
    length_mean: Tensor
    length_deviation: Tensor

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        margin: float = 0.4,
        h: float = 0.333,
        t_alpha: float = 0.01,
        scale: float = 64.0,
        seed: int = 0,
    ) -> None:
        require_like(specs.AdaFace, margin=margin, h=h, t_alpha=t_alpha, scale=scale)
        super().__init__(num_classes, embedding_dim, scale=scale, seed=seed)
        self.m, self.h, self.t_alpha = margin, h, t_alpha
        self.register_buffer("length_mean", torch.tensor(20.0))
        self.register_buffer("length_deviation", torch.tensor(100.0))

    @torch.no_grad()
    def _margin_now(self, emb_BD: Tensor, sample_weight_B: Tensor | None, everyone: Everyone) -> Margin | None:
        length_B = row_lengths(emb_BD).clamp(_SHORTEST, _LONGEST)
        if self.training:
            self._follow(length_B, sample_weight_B, everyone)
        quality_B = (length_B - self.length_mean) / (self.length_deviation + _EPS)
        return partial(_adapted, margin=self.m, quality_B=(quality_B * self.h).clamp(-1, 1))

    def _follow(self, length_B: Tensor, sample_weight_B: Tensor | None, everyone: Everyone) -> None:
        """Move the running mean and deviation towards those of all processes' rows."""
        parts_R4 = everyone(_moments(length_B, sample_weight_B))
        rows_R, weight_R, mean_R, squares_R = parts_R4.unbind(1)
        weight, rows = nonzero(weight_R.sum()), rows_R.sum()
        mean = (weight_R * mean_R).sum() / weight
        variance = (squares_R + weight_R * (mean_R - mean).square()).sum() / weight * rows / (rows - 1).clamp_min(1)
        share = torch.where(rows > 1, self.t_alpha, 0.0).to(self.length_mean.dtype)
        self.length_mean.lerp_(mean.to(self.length_mean.dtype), share)
        self.length_deviation.lerp_(variance.sqrt().to(self.length_deviation.dtype), share)


def _adapted(cos_B: Tensor, *, margin: float, quality_B: Tensor) -> Tensor:
    return shifted_angle(cos_B, shift_rad=-margin * quality_B) - (margin + margin * quality_B)


def _moments(length_B: Tensor, sample_weight_B: Tensor | None) -> Tensor:
    """Number of rows with a weight, sum of weights, weighted mean, weighted sum of squares about it: (4,)."""
    weight_B = torch.ones_like(length_B) if sample_weight_B is None else sample_weight_B.to(length_B.dtype)
    # An embedding that is not a number must not stay in the running values for ever.
    weight_B = torch.where(length_B.isnan(), 0, weight_B)
    length_B = torch.where(length_B.isnan(), 0, length_B)
    weight = weight_B.sum()
    mean = (weight_B * length_B).sum() / nonzero(weight)
    squares = (weight_B * (length_B - mean).square()).sum()
    return torch.stack([(weight_B > 0).sum().to(weight.dtype), weight, mean, squares])
