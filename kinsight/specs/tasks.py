"""What a training is for, and the settings that only classification and multilabel have."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, assert_never

from pydantic import Field

from kinsight.specs.base import Spec, default_tag
from kinsight.specs.classes import ClassesSpec
from kinsight.specs.label_losses import OverLabels
from kinsight.specs.losses import OverClasses, OverPairs
from kinsight.specs.model import NoNeck
from kinsight.specs.relations import SameLabelSpec
from kinsight.specs.report import ReportSpec

if TYPE_CHECKING:
    from kinsight.specs.train import TrainSpec

Task = Literal["metric", "classification", "multilabel"]


class EqualClasses(Spec):
    """Rare classes count by their images, like all."""

    kind: Literal["none"] = "none"


class ClassBalanced(Spec):
    """The loss of a class weighed by its effective number of images, (1 - beta) / (1 - beta^n)."""

    kind: Literal["class-balanced"] = "class-balanced"
    beta: float = Field(default=0.999, gt=0, lt=1, description="0: all alike; towards 1: by one over their number")


class LogitAdjustment(Spec):
    """Logits shifted by the classes' frequencies while training, so that rare ones need not be outvoted."""

    kind: Literal["logit-adjustment"] = "logit-adjustment"
    tau: float = Field(default=1.0, gt=0, le=10, description="factor of the shift; 1 suits the mean over classes")


LongTail = Annotated[
    EqualClasses | ClassBalanced | LogitAdjustment, Field(discriminator="kind"), default_tag("kind", "none")
]

_ALPHA = Field(default=0.2, gt=0, le=100, description="shares are drawn from Beta(alpha, alpha); 1: evenly")


class NoMix(Spec):
    """Images as they are."""

    kind: Literal["none"] = "none"


class Mixup(Spec):
    """Each image blended with another of the batch."""

    kind: Literal["mixup"] = "mixup"
    alpha: float = _ALPHA


class Cutmix(Spec):
    """A rectangle of each image replaced by that of another of the batch."""

    kind: Literal["cutmix"] = "cutmix"
    alpha: float = Field(default=1.0, gt=0, le=100, description="areas are drawn from Beta(alpha, alpha); 1: evenly")


Mix = Annotated[NoMix | Mixup | Cutmix, Field(discriminator="kind"), default_tag("kind", "none")]

METRICS: dict[Task, tuple[str, ...]] = {
    "metric": ("recall@k", "precision@k", "map@r", "r_precision", "map", "mrr"),
    "classification": ("accuracy", "top5_accuracy", "macro_recall"),
    "multilabel": ("map", "micro_map", "cf1", "of1", "exact_match"),
}
DEFAULT_METRIC: dict[Task, str] = {"metric": "recall@1", "classification": "accuracy", "multilabel": "map"}
_DEFAULT_LOSS: dict[str, str] = {"classification": "softmax", "multilabel": "bce"}


def with_defaults(given: Any) -> Any:
    """The settings of a training as given, with what its task has for defaults other than those of `metric`."""
    task = given.get("task") if isinstance(given, dict) else None
    if task not in _DEFAULT_LOSS:
        return given
    filled = {name: value for name, value in given.items() if name != "validate_"}
    if "validate_" in given:
        filled["validate"] = given["validate_"]
    for group, field, default, plain in (
        ("loss", "kind", None, _DEFAULT_LOSS[task]),
        ("model", "neck", NoNeck(), {"kind": "none"}),
        ("validate", "metric", DEFAULT_METRIC[task], DEFAULT_METRIC[task]),
    ):
        found = filled.get(group, {})
        if isinstance(found, dict):
            filled[group] = {field: plain, **found}
        elif isinstance(found, Spec) and field not in found.model_fields_set and default is not None:
            filled[group] = found.model_copy(update={field: default})
    return filled


def check_task(spec: "TrainSpec") -> None:
    """The settings of a training suit its task. Raises ValueError."""
    _loss_fits(spec)
    _metric_fits(spec)
    if spec.task == "metric":
        for name, setting in (("long_tail", spec.long_tail), ("mix", spec.mix)):
            if setting.kind != "none":
                raise ValueError(f"{name}.kind={setting.kind} has no effect with task=metric")
        if spec.validate_.classes != ClassesSpec():
            raise ValueError("validate.classes has no effect with task=metric")
        return
    if spec.relation != SameLabelSpec():
        raise ValueError(f"relation has no effect with task={spec.task}")
    _long_tail_fits(spec)
    _mix_fits(spec)
    _told_fits(spec)


def _loss_fits(spec: "TrainSpec") -> None:
    for name, loss in spec.all_losses().items():
        labels, main = isinstance(loss, OverLabels), name == "loss"
        match spec.task:
            case "metric":
                wrong, fitting = labels, "a loss over classes or over pairs, such as am-softmax or supcon"
            case "classification":
                wrong = labels or (main and not isinstance(loss, OverClasses))
                fitting = "a loss over classes, such as softmax or arcface"
            case "multilabel":
                wrong, fitting = not labels, "bce, focal, asl or two-way"
            case _:
                assert_never(spec.task)
        if wrong:
            raise ValueError(f"{name}.kind={loss.kind} does not suit task={spec.task}: choose {fitting}")


def _metric_fits(spec: "TrainSpec") -> None:
    wanted, choices = spec.validate_.metric, METRICS[spec.task]
    known = wanted in choices or (spec.task == "metric" and wanted.partition("@")[0] in ("recall", "precision"))
    if not known:
        raise ValueError(f"validate.metric={wanted}: task={spec.task} has {', '.join(choices)}")


def _told_fits(spec: "TrainSpec") -> None:
    """What is told of the classifier at the end, and of its vectors nothing."""
    told = spec.validate_.classes
    if vain := told.without_effect(several=spec.task == "multilabel"):
        raise ValueError(f"validate.classes.{vain[0]} has no effect with task={spec.task}")
    if spec.report is None:
        for name in told.differing("each_class", "num_visualizations"):
            raise ValueError(f"validate.classes.{name} has no effect without report: it is for the page")
    elif spec.report != ReportSpec():
        raise ValueError(f"report.map has no effect with task={spec.task}: its page has no map of the vectors")


def _long_tail_fits(spec: "TrainSpec") -> None:
    kind, loss = spec.long_tail.kind, spec.loss.kind
    if kind != "none" and spec.sampler.kind == "class-balanced":
        raise ValueError(
            f"long_tail.kind={kind} and sampler.kind=class-balanced both make up for rare classes, which would be "
            "favoured twice: choose one of them"
        )
    if kind == "class-balanced" and loss in ("proxy-anchor", "two-way"):
        raise ValueError(f"long_tail.kind=class-balanced has nothing to weigh in loss.kind={loss}, a loss of a batch")
    if kind == "logit-adjustment" and loss not in ("softmax", "normalized-softmax", "bce", "focal", "asl"):
        raise ValueError(
            f"long_tail.kind=logit-adjustment shifts logits without margin, and loss.kind={loss} has others: choose "
            + ("bce, focal or asl" if spec.task == "multilabel" else "softmax or normalized-softmax")
        )


def _mix_fits(spec: "TrainSpec") -> None:
    kind = spec.mix.kind
    if kind == "none":
        return
    for name, loss in spec.all_losses().items():
        if isinstance(loss, OverPairs):
            raise ValueError(f"mix.kind={kind} makes images of two classes, which {name}.kind={loss.kind} cannot pair")
    if spec.sampler.kind not in ("shuffle", "class-balanced"):
        raise ValueError(
            f"mix.kind={kind} mixes neighbours in a batch, which are of one class with sampler.kind="
            f"{spec.sampler.kind}: choose shuffle or class-balanced"
        )
    if spec.batch.size < 2:
        raise ValueError(f"mix.kind={kind} needs a batch.size of at least 2")
