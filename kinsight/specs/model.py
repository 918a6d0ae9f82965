"""The network: backbone, pooling, neck, and where its first weights come from."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_serializer, model_validator

from kinsight.specs.base import Spec, default_tag


class AvgPool(Spec):
    """Mean over positions (patch tokens of a transformer, without its class token)."""

    kind: Literal["avg"] = "avg"


class MaxPool(Spec):
    """Maximum over positions."""

    kind: Literal["max"] = "max"


class GemPool(Spec):
    """Generalised mean over positions, with a learned exponent."""

    kind: Literal["gem"] = "gem"
    p: float = Field(
        default=3.0, ge=1, le=100, description="exponent to start from; 1 is the mean, large ones the maximum"
    )


class FlatPool(Spec):
    """Every position's features one after the other, so that places count: for small, aligned pictures."""

    kind: Literal["flat"] = "flat"


class TokenPool(Spec):
    """The class token of a vision transformer that has one."""

    kind: Literal["token"] = "token"


Pooling = Annotated[
    AvgPool | MaxPool | GemPool | FlatPool | TokenPool, Field(discriminator="kind"), default_tag("kind", "avg")
]


class LinearNeck(Spec):
    """One linear layer from the pooled features to the embedding."""

    kind: Literal["linear"] = "linear"


class BNNeck(Spec):
    """Batch normalisation, linear layer, dropout."""

    kind: Literal["bnneck"] = "bnneck"
    dropout: float = Field(default=0.3, ge=0, lt=1, description="share of embedding entries dropped while training")


class CgdNeck(Spec):
    """Combined global descriptors: one linear branch per pooling, each normalised, concatenated.

    Its poolings are its own, so `model.pooling` does not apply.
    """

    kind: Literal["cgd"] = "cgd"
    branches: list[Literal["avg", "gem", "max"]] = Field(
        default=["avg", "gem"], min_length=1, max_length=3, description="poolings, in order of concatenation"
    )


class NoNeck(Spec):
    """The pooled features are the embedding, so that `embedding_dim` is theirs; no weights."""

    kind: Literal["none"] = "none"


Neck = Annotated[LinearNeck | BNNeck | CgdNeck | NoNeck, Field(discriminator="kind"), default_tag("kind", "linear")]


def _no_word_for_null(address: str) -> str:
    if address.strip().lower() in ("", "none", "random", "false", "no"):
        raise ValueError(
            f"model.pretrained={address!r}: is no weights file; set it to null for random weights"
            + (f", or to ./{address} for a file of that name" if address.strip() else "")
        )
    return address


FirstWeights = Annotated[str, AfterValidator(_no_word_for_null)]
"""`default`, or the address of a weights file; refuses words that stand for null elsewhere."""


class ModelSpec(Spec):
    """From image to embedding."""

    backbone: str = Field(
        default="resnet50",
        description="resnet50, swint_tiny, vit_base, xcit_small, inception_v4, lenet, ..., conv4, or any timm name",
    )
    pretrained: FirstWeights | None = Field(
        default="default", description="`default` (published weights), null (random), or the address of a weights file"
    )
    backbone_dim: int | None = Field(default=None, ge=1, description="features the backbone gives; checked when set")
    embedding_dim: int = Field(
        default=1536,
        ge=2,
        le=65536,
        description="length of the embedding vector; without a neck, if not set, that of the pooled features",
    )
    pooling: Pooling = Field(default=AvgPool(), description="from feature map to one vector")
    neck: Neck = Field(default=LinearNeck(), description="from pooled features to the embedding")
    init_from: str | None = Field(
        default=None, description="bundle, run or checkpoint to start from, neck included; the class weights are new"
    )
    compile: bool = Field(
        default=False, description="compile the network with torch.compile (needs a C++ compiler on a CPU)"
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_set(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("embedding_dim", 0) is None:
            return {name: value for name, value in given.items() if name != "embedding_dim"}
        return given

    @property
    def has_own_length(self) -> bool:
        """Whether the embedding is as long as the network's features happen to be."""
        return self.neck.kind == "none" and "embedding_dim" not in self.model_fields_set

    @field_serializer("embedding_dim")
    def _own_length(self, value: int) -> int | None:
        return None if self.has_own_length else value
