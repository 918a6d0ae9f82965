"""SoftTriple: several centres a class, of which an image leans to the nearest."""

from functools import partial

import torch
from torch import Tensor

from kinsight.losses.head import ClassHead, LinearForm
from kinsight.losses.margins import lowered_cosine
from kinsight.losses.numerics import wide_dtype
from kinsight.losses.settings import require_like
from kinsight.specs import class_losses as specs


class SoftTriple(ClassHead):
    """Cross-entropy with own logit lambda (S_y - delta), others lambda S_c, and a pull of a class's centres together.

    S_c = sum_k q_k cos(x, w_ck), q the softmax over k of cos(x, w_ck) / gamma. Qian et al. 2019, eq. 8 and 9.
    The pull: tau / (C K (K - 1)) times the sum over classes and over pairs of their centres of sqrt(2 - 2 cos + 1e-5)
    (eq. 10 and 11; the 1e-5, the authors' own code's, keeps the slope finite where centres have met).

    centres: K, from 2. scale: lambda. gamma: above 0; smaller looks at the nearest centre alone. margin: delta, 0 to 1.
    tau: from 0.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        centres: int = 10,
        scale: float = 20.0,
        gamma: float = 0.1,
        margin: float = 0.01,
        tau: float = 0.2,
        seed: int = 0,
    ) -> None:
        require_like(specs.SoftTriple, centres=centres, scale=scale, gamma=gamma, margin=margin, tau=tau)
        super().__init__(
            num_classes,
            embedding_dim,
            scale=scale,
            margin=partial(lowered_cosine, margin=margin),
            seed=seed,
            centres=centres,
            pool=partial(_leaning, sharpness=1 / (scale * gamma)),
        )
        self.tau, self.sharpness = tau, 1 / (scale * gamma)

    def _pooled(self, form: LinearForm) -> LinearForm:
        return form._replace(pool="soft", sharpness=self.sharpness)

    def _penalty(self, emb_BD: Tensor) -> Tensor | float:
        if self.tau == 0:
            return 0.0
        rows = self.weight_CD.to(wide_dtype(emb_BD, self.weight_CD)).unflatten(0, (-1, self.centres))
        length_CK = torch.linalg.vector_norm(rows, dim=2)
        length_CK = torch.where(length_CK == 0, 1, length_CK)
        cos_CKK = torch.bmm(rows, rows.mT) / (length_CK[:, :, None] * length_CK[:, None, :])
        one, other = torch.triu_indices(self.centres, self.centres, offset=1, device=rows.device)
        # Rounding may leave a cosine a little above 1, which the authors' 1e-5 covers.
        apart_CP = (2 + 1e-5 - 2 * cos_CKK[:, one, other]).sqrt()
        return self.tau * apart_CP.sum() / (self.num_classes * self.centres * (self.centres - 1))


def _leaning(logits_BCK: Tensor, *, sharpness: float) -> Tensor:
    """Means of the centres' logits, weighed by a softmax over them."""
    return ((logits_BCK * sharpness).softmax(2) * logits_BCK).sum(2)
