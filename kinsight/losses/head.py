"""What all heads over classes share: class weights in, one loss out, and nobody else sees the B x C logits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinsight.errors import DataError, SpecError
from kinsight.losses.numerics import class_rows, nonzero, unit_rows, weighted_mean, wide_dtype, without_autocast

Stats = dict[str, Tensor]
Margin = Callable[[Tensor], Tensor]
Pool = Callable[[Tensor], Tensor]
Everyone = Callable[[Tensor], Tensor]
"""A tensor of this process -> those of all of a group, stacked along a new first dimension, with gradient to each."""


def alone(tensor: Tensor) -> Tensor:
    """The `Everyone` of a process on its own."""
    return tensor[None]


@dataclass(frozen=True)
class Factors:
    """What logits are made of: (x @ rows^T) * row_factor + bias, over all classes or any block of them.

    x: (B, D), the head's scale in it. rows: (C, D). row_factor, bias: (C,) or None. Normalised class weights are
    divided by their lengths after the product: B x C numbers instead of C x D.
    centres: K, rows of each class, one after the other; then rows and row_factor have C K entries, and pool makes one
    logit a class out of (B, C, K).
    """

    x: Tensor
    rows: Tensor
    row_factor: Tensor | None = None
    bias: Tensor | None = None
    centres: int = 1
    pool: Pool | None = None

    def logits(self) -> Tensor:
        """(B, C)."""
        if self.row_factor is None:
            return self._pooled(F.linear(self.x, self.rows, self.bias))
        product_BC = F.linear(self.x, self.rows) * self.row_factor
        return self._pooled(product_BC if self.bias is None else product_BC + self.bias)

    def _pooled(self, logits_BR: Tensor) -> Tensor:
        return logits_BR if self.pool is None else self.pool(logits_BR.unflatten(1, (-1, self.centres)))


class LinearForm(NamedTuple):
    """Scores as pool(weight_RD @ x) + bias_C, everything that scales them in weight_RD.

    weight_RD: (C K, D), the K rows of a class one after the other. unit: x at length 1. sharpness: of pool `soft`, the
    mean weighed by softmax(sharpness * logit).
    """

    weight_RD: Tensor
    bias_C: Tensor | None
    unit: bool
    centres: int = 1
    pool: Literal["none", "max", "soft"] = "none"
    sharpness: float = 1.0


class ClassHead(nn.Module):
    """Softmax cross-entropy over classes; the base of every head.

    Logit of class j: scale * <x, w_j> + b_j, with x and w_j at unit length where the head says so. A head with a margin
    changes the logit of a sample's own class only: it becomes scale * |x| * |w_y| * margin(cos theta_y).

    margin: maps cosines (B,) to what the loss sees in their place; None: no margin.
    centres, pool: K rows of weights a class, and what makes one logit (B, C) of theirs (B, C, K).
    weight_CD: the class weights, float32, equal for equal `seed` (the global generator is neither read nor moved);
    (C K, D) with several centres, those of a class one after the other.
    shift_C: added to the logits in the loss, not in `logits`. loss_weight_C: factors of the losses of a class's images.
    Both None or (C,), and no part of the state.
    Everything is computed in float32 at least, whatever the embeddings' dtype and under autocast.
    """

    unit_embeddings = True
    unit_weights = True
    shift_C: Tensor | None
    loss_weight_C: Tensor | None
    whole_batch: ClassVar[bool] = False
    """Whether the loss is one number for the rows of all processes, equal on each, and not a mean over local rows."""
    follows_batches: ClassVar[bool] = False
    """Whether it keeps numbers of the batches it has seen: a step in pieces must then show it all images at once."""

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        scale: float,
        seed: int,
        margin: Margin | None = None,
        bias: bool = False,
        uniform: bool = False,
        centres: int = 1,
        pool: Pool | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(num_classes, embedding_dim, scale)
        self.num_classes, self.embedding_dim, self.scale = num_classes, embedding_dim, float(scale)
        self.margin, self.centres, self.pool = margin, centres, pool
        self.weight_CD = nn.Parameter(class_rows(0, num_classes * centres, embedding_dim, seed=seed, uniform=uniform))
        self.bias_C = nn.Parameter(torch.zeros(num_classes)) if bias else None
        self.register_buffer("shift_C", None, persistent=False)
        self.register_buffer("loss_weight_C", None, persistent=False)

    def forward(
        self, emb_BD: Tensor, target: Tensor, sample_weight_B: Tensor | None = None, *, everyone: Everyone = alone
    ) -> tuple[Tensor, Stats]:
        """Mean loss over the batch in nats, sum(w * loss) / sum(w) when weighted, and detached 0-d statistics.

        emb_BD: any floating dtype. target: int64 class ids (B,). sample_weight_B: weights from 0.
        everyone: how heads that need to know of other processes' rows do; `Objective` gives it.
        stats: `accuracy`, the (weighted) share whose own class has the largest logit before any margin.
        Raises DataError on labels that are not int64 ids below num_classes (the range: on the CPU only, a GPU would
        have to be waited for), SpecError on embeddings of another length.
        """
        label_B = self._labels(emb_BD, target)
        with without_autocast(emb_BD):
            factors = self._shifted(self._factors(emb_BD))
            margin = self._margin_now(emb_BD, sample_weight_B, everyone)
            loss_B, hit_B = self._sample_losses(factors, label_B, margin)
            loss_B = loss_B + self._penalty(emb_BD)
            if self.loss_weight_C is not None:
                loss_B = loss_B * self.loss_weight_C[label_B]
            loss = weighted_mean(loss_B, sample_weight_B)
            accuracy = weighted_mean(hit_B.to(loss_B.dtype), sample_weight_B)
        return loss, {"accuracy": accuracy.detach()}

    def logits(self, emb_BD: Tensor) -> Tensor:
        """Class scores (B, C) to predict from, float32 or wider, without margin."""
        with without_autocast(emb_BD):
            return self._factors(emb_BD).logits()

    @torch.no_grad()
    def linear(self) -> LinearForm:
        """What `logits` computes, for those who keep it."""
        weight_RD = self.weight_CD.detach() * self.scale
        if self.unit_weights:
            weight_RD = weight_RD / nonzero(torch.linalg.vector_norm(self.weight_CD, dim=1))[:, None]
        return self._pooled(LinearForm(weight_RD, self.bias_C, self.unit_embeddings, self.centres))

    def _pooled(self, form: LinearForm) -> LinearForm:
        """The form with what makes one logit of a class's centres."""
        assert self.pool is None, f"{type(self).__name__} says how its centres are pooled"
        return form

    def extra_repr(self) -> str:
        keywords = getattr(self.margin, "keywords", {})
        margin = "".join(f", {name}={value:g}" for name, value in keywords.items())
        centres = f", centres={self.centres}" if self.centres > 1 else ""
        return (
            f"num_classes={self.num_classes}, embedding_dim={self.embedding_dim}, scale={self.scale:g}{margin}{centres}"
        )

    def _check_lengths(self, emb_BD: Tensor) -> None:
        if emb_BD.dim() != 2 or emb_BD.shape[1] != self.embedding_dim:
            raise SpecError(
                "loss.embedding-dim",
                f"embeddings of shape {tuple(emb_BD.shape)}: expected (batch, {self.embedding_dim})",
                remedy="build the head with the embedding length of the model",
            )

    def _factors(self, emb_BD: Tensor) -> Factors:
        self._check_lengths(emb_BD)
        dtype = wide_dtype(emb_BD, self.weight_CD)
        emb_BD, weight_CD = emb_BD.to(dtype), self.weight_CD.to(dtype)
        x_BD = unit_rows(emb_BD) if self.unit_embeddings else emb_BD
        return Factors(
            x=x_BD * self.scale,
            rows=weight_CD,
            row_factor=1 / nonzero(torch.linalg.vector_norm(weight_CD, dim=1)) if self.unit_weights else None,
            bias=None if self.bias_C is None else self.bias_C.to(dtype),
            centres=self.centres,
            pool=self.pool,
        )

    def _shifted(self, factors: Factors) -> Factors:
        if self.shift_C is None:
            return factors
        shift_C = self.shift_C.to(factors.x.dtype)
        return replace(factors, bias=shift_C if factors.bias is None else factors.bias + shift_C)

    def _margin_now(self, emb_BD: Tensor, sample_weight_B: Tensor | None, everyone: Everyone) -> Margin | None:
        """The margin for these embeddings: for heads where it depends on them."""
        return self.margin

    def _penalty(self, emb_BD: Tensor) -> Tensor | float:
        """What is added to each sample's loss: (B,), or one number for all."""
        return 0.0

    def _sample_losses(self, factors: Factors, label_B: Tensor, margin: Margin | None) -> tuple[Tensor, Tensor]:
        if margin is None:
            change_own = None
        elif self.unit_embeddings and self.unit_weights:
            change_own = _on_cosine(margin, self.scale)
        else:
            change_own = _on_cosine(margin, self._own_length(factors, label_B))
        loss_B, _, hit_B = class_cross_entropy(factors, label_B, change_own)
        return loss_B, hit_B

    def _own_length(self, factors: Factors, label_B: Tensor) -> Tensor:
        """What an own logit is at cosine 1: scale * |x| * |w_y|."""
        length_B = torch.linalg.vector_norm(factors.x, dim=1)
        if self.unit_weights:
            return length_B
        return length_B * torch.linalg.vector_norm(factors.rows.index_select(0, label_B), dim=1)

    def _labels(self, emb_BD: Tensor, target: Tensor) -> Tensor:
        if target.dtype != torch.int64 or target.shape != emb_BD.shape[:1]:
            raise DataError(
                "loss.labels",
                f"labels of dtype {target.dtype} and shape {tuple(target.shape)}: expected int64 and ({len(emb_BD)},)",
                remedy="pass one class id per embedding",
            )
        self._check_range(target)
        return target

    def _check_range(self, label: Tensor) -> None:
        if label.device.type == "cpu" and label.numel():
            low, high = int(label.min()), int(label.max())
            if low < 0 or high >= self.num_classes:
                raise DataError(
                    "loss.label-range",
                    f"label {low if low < 0 else high}: expected 0 to {self.num_classes - 1}",
                    field="num_classes",
                    remedy="number the classes from 0 without gaps, or raise num_classes",
                )


def class_cross_entropy(
    factors: Factors, label_B: Tensor, change_own: Margin | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Each sample's cross-entropy, own logit, and whether that is the largest.

    change_own: maps the own logits (B,) to those the cross-entropy uses in their place; the others are not touched.
    """
    logits_BC = factors.logits()
    own_B = logits_BC.gather(1, label_B[:, None]).squeeze(1)
    hit_B = own_B.detach() >= logits_BC.detach().amax(1)
    if change_own is not None:
        logits_BC = logits_BC.scatter(1, label_B[:, None], change_own(own_B)[:, None])
    return F.cross_entropy(logits_BC, label_B, reduction="none"), own_B, hit_B


def _on_cosine(margin: Margin, length_B: Tensor | float) -> Margin:
    """The margin as a map of logits, where length_B is the logit at cosine 1."""
    if not isinstance(length_B, Tensor):
        return lambda own_B: length_B * margin(own_B / length_B)
    usable_B = length_B > torch.finfo(length_B.dtype).tiny
    divisor_B = torch.where(usable_B, length_B, 1)
    # A vector without length has no angle: cosine 0, no gradient through it.
    return lambda own_B: length_B * margin(torch.where(usable_B, own_B / divisor_B, 0))


def _check_sizes(num_classes: int, embedding_dim: int, scale: float) -> None:
    if num_classes < 2:
        raise SpecError(
            "loss.num-classes",
            f"{num_classes} class: a loss over classes needs at least 2",
            field="num_classes",
            remedy="add images of a second class",
        )
    if embedding_dim < 1:
        raise SpecError("loss.embedding-dim", f"{embedding_dim}: expected at least 1", field="embedding_dim")
    if not 0 < scale < float("inf"):
        raise SpecError("loss.scale", f"{scale}: expected a factor above 0", field="scale")
