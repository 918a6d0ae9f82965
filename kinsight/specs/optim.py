"""Optimizers and learning-rate schedules."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from kinsight.specs.base import Spec, default_tag


class Sgd(Spec):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(default=0.03, gt=0, description="initial learning rate")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum")
    nesterov: bool = Field(default=False, description="Nesterov's form of momentum")
    weight_decay: float = Field(
        default=1e-4, ge=0, description="L2 penalty; not applied to biases and normalisation layers"
    )
    head_lr_scale: float = Field(
        default=1.0, gt=0, description="learning rate of head and neck relative to the backbone's"
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="learning rate of each backbone layer relative to the one above it"
    )


class _AdamBase(Spec):
    lr: float = Field(default=1e-3, gt=0, description="initial learning rate")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of the gradient's mean")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="decay of the squared gradient's mean")
    eps: float = Field(default=1e-8, gt=0, description="added to the denominator")
    head_lr_scale: float = Field(
        default=1.0, gt=0, description="learning rate of head and neck relative to the backbone's"
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="learning rate of each backbone layer relative to the one above it"
    )


class AdamW(_AdamBase):
    """Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: float = Field(
        default=0.01, ge=0, description="decoupled decay; not applied to biases and normalisation layers"
    )


class Adam(_AdamBase):
    """Adam; weight decay is an L2 penalty, whose gradient it scales like the loss's."""

    kind: Literal["adam"] = "adam"
    weight_decay: float = Field(
        default=0.0, ge=0, description="L2 penalty; not applied to biases and normalisation layers"
    )


Optimizer = Annotated[Sgd | AdamW | Adam, Field(discriminator="kind"), default_tag("kind", "sgd")]


class _Warmed(Spec):
    warmup_ratio: float = Field(
        default=1e-4, ge=0, le=1, description="first learning rate, as a share of the initial one"
    )


class _Schedule(_Warmed):
    warmup_steps: int = Field(default=0, ge=0, description="steps of linear warm-up")


class CosineSchedule(_Warmed):
    """Half a cosine from the initial rate to `min_lr`."""

    kind: Literal["cosine"] = "cosine"
    warmup_steps: int | None = Field(
        default=None, ge=0, description="steps of linear warm-up; null: 100, at most a tenth of the steps there are"
    )
    min_lr: float = Field(default=1e-6, ge=0, description="learning rate at the end")


class StepSchedule(_Schedule):
    """Multiply by `gamma`, or go on with the next of `learning_rates`, at each of the given epochs (or steps)."""

    kind: Literal["step"] = "step"
    at: list[int] = Field(min_length=1, description="when to change, rising")
    unit: Literal["epochs", "steps"] = Field(default="epochs", description="what `at` counts")
    gamma: float = Field(default=0.1, gt=0, le=1, description="factor")
    learning_rates: list[Annotated[float, Field(gt=0)]] | None = Field(
        default=None, description="the rate from each of `at` on, instead of gamma; as many as `at`"
    )

    @model_validator(mode="after")
    def _a_rate_each(self) -> "StepSchedule":
        if self.learning_rates is None:
            return self
        if len(self.learning_rates) != len(self.at):
            raise ValueError(
                f"learning_rates={self.learning_rates}: expected {len(self.at)}, one for each of at={self.at}"
            )
        if "gamma" in self.model_fields_set:
            raise ValueError(f"gamma={self.gamma} has no effect with learning_rates: leave one of them out")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_unused(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A stored spec can be given again: gamma was not."""
        return {name: value for name, value in write(self).items() if name != "gamma" or self.learning_rates is None}


class ExponentialSchedule(_Schedule):
    """Multiply by `gamma` every `every` epochs (or steps); smoothly, or at once with `staircase`."""

    kind: Literal["exponential"] = "exponential"
    gamma: float = Field(default=0.97, gt=0, le=1, description="factor")
    every: float = Field(default=1.0, gt=0, description="interval")
    unit: Literal["epochs", "steps"] = Field(default="epochs", description="what `every` counts")
    staircase: bool = Field(default=False, description="whole intervals only")


class PolynomialSchedule(_Schedule):
    """(1 - progress)^power from the initial rate to `min_lr_ratio` of it."""

    kind: Literal["polynomial"] = "polynomial"
    power: float = Field(default=1.0, gt=0, description="exponent")
    min_lr_ratio: float = Field(
        default=1e-3, ge=0, le=1, description="learning rate at the end, as a share of the initial one"
    )


class ConstantSchedule(_Schedule):
    """The initial rate throughout."""

    kind: Literal["constant"] = "constant"


Schedule = Annotated[
    CosineSchedule | StepSchedule | ExponentialSchedule | PolynomialSchedule | ConstantSchedule,
    Field(discriminator="kind"),
    default_tag("kind", "cosine"),
]
