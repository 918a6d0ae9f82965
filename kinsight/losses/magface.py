"""MagFace: the longer an embedding, the better its image; long ones keep a wider margin."""

from functools import partial

from torch import Tensor

from kinsight.losses.by_length import LengthHead
from kinsight.losses.head import Everyone, Margin
from kinsight.losses.margins import widened_angle
from kinsight.losses.numerics import row_lengths
from kinsight.losses.settings import require_like
from kinsight.specs import class_losses as specs


class MagFace(LengthHead):
    """ArcFace with margin m(a) and a penalty lambda_g g(a), a = |x| cut to [l_a, u_a]. Meng et al. 2021, eq. 2 and 5.

    m(a) = l_margin + (u_margin - l_margin) (a - l_a) / (u_a - l_a), in radians; g(a) = 1 / a + a / u_a^2, in 1 over
    lengths. a is a length as the network gives it: the defaults suit lengths of some tens, which batch norm at the end
    of a network of 512 dimensions gives. Outside [l_a, u_a] the length has no gradient: look at the statistic `length`.

    Beyond theta_y = pi - m(a) the own logit goes on falling as ArcFace's does; the authors' code by default has no
    margin for negative cosines instead, a step upwards at 90 degrees.

    l_a, u_a: 0 < l_a < u_a. l_margin_rad, u_margin_rad: 0 <= l <= u <= pi/2. lambda_g: from 0. scale: s.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        l_a: float = 10.0,
        u_a: float = 110.0,
        l_margin_rad: float = 0.45,
        u_margin_rad: float = 0.8,
        lambda_g: float = 35.0,
        scale: float = 64.0,
        seed: int = 0,
    ) -> None:
        bounds = {"l_a": l_a, "u_a": u_a, "l_margin_rad": l_margin_rad, "u_margin_rad": u_margin_rad}
        require_like(specs.MagFace, **bounds, lambda_g=lambda_g, scale=scale)
        super().__init__(num_classes, embedding_dim, scale=scale, seed=seed)
        self.l_a, self.u_a, self.lambda_g = l_a, u_a, lambda_g
        self.l_margin_rad, self.u_margin_rad = l_margin_rad, u_margin_rad

    def _margin_now(self, emb_BD: Tensor, sample_weight_B: Tensor | None, everyone: Everyone) -> Margin | None:
        slope = (self.u_margin_rad - self.l_margin_rad) / (self.u_a - self.l_a)
        margin_rad_B = self.l_margin_rad + slope * (self._bounded(emb_BD) - self.l_a)
        return partial(widened_angle, margin_rad=margin_rad_B)

    def _penalty(self, emb_BD: Tensor) -> Tensor | float:
        length_B = self._bounded(emb_BD)
        return self.lambda_g * (1 / length_B + length_B / self.u_a**2)

    def _bounded(self, emb_BD: Tensor) -> Tensor:
        return row_lengths(emb_BD).clamp(self.l_a, self.u_a)
