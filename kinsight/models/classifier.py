"""The classifier of a bundle: from embeddings to one logit a class, whatever loss its weights come from."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

PREFIX = "classifier."


class ClassifierForm(BaseModel):
    """What a classifier does beside its product with the weights; stands in the bundle's header.

    unit: whether embeddings are brought to length 1 first. centres: K rows of weights a class, one after the other.
    pool: how a class's K logits become one; `soft` is their mean weighed by softmax(sharpness * logit).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    num_classes: int = Field(ge=1)
    embedding_dim: int = Field(ge=1)
    unit: bool = False
    bias: bool = True
    centres: int = Field(default=1, ge=1)
    pool: Literal["none", "max", "soft"] = "none"
    sharpness: float = 1.0


class Classifier(nn.Module):
    """logits_BC = pool(W x / |x|, or W x) + b, in float32, also under autocast.

    weight_RD: float32 (C K, D), what the loss multiplies its logits by in it. bias_C: float32, or None.
    """

    def __init__(self, form: ClassifierForm) -> None:
        super().__init__()
        self.form = form
        self.weight = nn.Parameter(
            torch.zeros(form.num_classes * form.centres, form.embedding_dim), requires_grad=False
        )
        self.bias = nn.Parameter(torch.zeros(form.num_classes), requires_grad=False) if form.bias else None

    @classmethod
    def of(cls, form: ClassifierForm, weight_RD: Tensor, bias_C: Tensor | None) -> "Classifier":
        """A classifier with these weights, copied to the CPU."""
        classifier = cls(form)
        assert (bias_C is not None) == form.bias, "the form says whether there is a bias"
        with torch.no_grad():
            classifier.weight.copy_(weight_RD)
            if classifier.bias is not None and bias_C is not None:
                classifier.bias.copy_(bias_C)
        return classifier.eval()

    def forward(self, emb_BD: Tensor) -> Tensor:
        """Logits (B, C), float32, of embeddings of any floating dtype as the network gives them."""
        with torch.autocast(emb_BD.device.type, enabled=False):
            x_BD = emb_BD.float()
            if self.form.unit:
                x_BD = F.normalize(x_BD, dim=1)
            logits_BR = F.linear(x_BD, self.weight)
            logits_BC = self._pooled(logits_BR.unflatten(1, (-1, self.form.centres)))
            return logits_BC if self.bias is None else logits_BC + self.bias

    def bundled_state(self) -> dict[str, Tensor]:
        """Its tensors under the names they have in a bundle."""
        return {PREFIX + name: value for name, value in self.state_dict().items()}

    def _pooled(self, logits_BCK: Tensor) -> Tensor:
        if self.form.pool == "soft":
            return ((logits_BCK * self.form.sharpness).softmax(2) * logits_BCK).sum(2)
        return logits_BCK.amax(2)  # of one centre: that one
