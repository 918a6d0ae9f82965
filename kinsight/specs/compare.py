"""The `compare` job."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from kinsight.specs.base import Spec
from kinsight.specs.data import Source

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class FoldSpec(Spec):
    """Class-disjoint cross-validation: each class is held out once."""

    number: int = Field(default=4, ge=2, le=100, description="parts the training classes are split into")
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of the splits; each seed of the runs has its own")
    together: str | None = Field(
        default=None, description="column whose values (super-classes) are held out whole; group: the source's"
    )


class BudgetSpec(Spec):
    """What every run may use: one of steps, epochs, seconds."""

    steps: int | None = Field(default=None, ge=1, description="optimizer steps")
    epochs: int | None = Field(default=None, ge=1, description="passes over the training images")
    seconds: float | None = Field(
        default=None, gt=0, description="time in the training loop, without validation and checkpoints"
    )

    @model_validator(mode="after")
    def _one(self) -> "BudgetSpec":
        if len(self.given()) != 1:
            raise ValueError("budget: give one of steps, epochs, seconds")
        return self

    def given(self) -> dict[str, float | int]:
        """The one that is set, by name."""
        return {name: value for name, value in self.model_dump().items() if value is not None}


@dataclass(frozen=True)
class Interval:
    """Numbers from low to high; log: even in their logarithm."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choices:
    """One of these."""

    values: tuple[str | int | float | bool, ...]


def read_range(name: str, given: Any) -> Interval | Choices:
    """A range of `tune`: `[low, high]`, `{low, high, log}` or `{choices: [...]}`. Raises ValueError naming `name`."""
    if isinstance(given, list) and len(given) == 2:
        given = {"low": given[0], "high": given[1]}
    if isinstance(given, dict) and set(given) == {"choices"} and isinstance(given["choices"], list):
        values = given["choices"]
        if len(values) > 1 and all(isinstance(value, str | int | float | bool) for value in values):
            return Choices(tuple(values))
        raise ValueError(f"{name}.choices={values!r}: must be two texts, numbers or booleans at least")
    if not isinstance(given, dict) or not {"low", "high"} <= set(given) <= {"low", "high", "log"}:
        raise ValueError(f"{name}={given!r}: must be [low, high], {{low: , high: , log: true}} or {{choices: [...]}}")
    low, high, log = given["low"], given["high"], given.get("log", False)
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)) or not low < high:
        raise ValueError(f"{name}: low={low!r} and high={high!r} must be rising numbers")
    if not isinstance(log, bool) or (log and low <= 0):
        raise ValueError(f"{name}: log={log!r} needs low={low!r} above 0")
    return Interval(low, high, log)


class CompareSpec(Spec):
    """Compare losses, samplers and the like under one protocol: same network, images, batch and budget for all.

    Every candidate is trained on each fold with each seed and measured on the classes held out (Musgrave et al. 2020,
    A Metric Learning Reality Check).
    """

    job: Literal["compare"] = "compare"
    output: str = Field(description="address of the folder for the runs, compare.json and the page")
    base: str | dict[str, Any] = Field(
        description="the train spec that all candidates share: its file's address, or its settings, as YAML"
    )
    candidates: dict[str, dict[str, Any]] = Field(
        min_length=2,
        description="name: {settings of the train spec that differ from the base, such as loss and sampler}, as YAML; "
        "`tune` among them: ranges of this candidate's own",
    )
    allow: list[str] = Field(
        default=[], description="settings that the protocol holds equal and candidates may change all the same"
    )
    folds: FoldSpec = Field(default=FoldSpec(), description="cross-validation over classes")
    seeds: int | list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        default=[0, 1], description="seeds of weights, order and augmentation; a number n: 0 to n - 1"
    )
    budget: BudgetSpec | None = Field(default=None, description="of each run; default: the base's")
    trials: int = Field(
        default=0, ge=0, le=10_000, description="settings tried for each candidate over its ranges; 0: nothing is tuned"
    )
    tune: dict[str, Any] = Field(
        default={},
        description="ranges tuned for every candidate: `optimizer.head_lr_scale: {low: 0.1, high: 100, log: true}`, "
        "`[low, high]`, or `{choices: [...]}`, as YAML",
    )
    metric: Literal["map@r", "recall@1", "r_precision"] = Field(
        default="map@r", description="what candidates are ranked, tuned and tested for significance by"
    )
    keep: Literal["last", "best"] = Field(
        default="last", description="model that counts: at the end of the budget, or the best by the held-out classes"
    )
    curve: int = Field(default=8, ge=1, le=1000, description="validations of each run, evenly over its budget")
    alpha: float = Field(default=0.05, gt=0, lt=1, description="level of significance; intervals cover 1 - alpha")
    test: Source | None = Field(
        default=None, description="labelled images of other classes, used once at the end; models of all folds"
    )

    @field_validator("folds", mode="before")
    @classmethod
    def _number_alone(cls, given: Any) -> Any:
        return {"number": given} if isinstance(given, int) and not isinstance(given, bool) else given

    @field_validator("tune")
    @classmethod
    def _ranges(cls, given: dict[str, Any]) -> dict[str, Any]:
        for path, text in given.items():
            read_range(f"tune.{path}", text)
        return given

    @field_validator("candidates")
    @classmethod
    def _names(cls, given: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in given:
            if not re.match(NAME, name) or name.endswith("."):
                raise ValueError(
                    f"candidates.{name!r}: a name begins with a letter or digit and holds letters, digits, '.', '_' "
                    "and '-', at most 64"
                )
        for name, changes in given.items():
            ranges = changes.get("tune", {})
            if not isinstance(ranges, dict):
                raise ValueError(f"candidates.{name}.tune={ranges!r}: must be a mapping of settings to ranges")
            for path, text in ranges.items():
                read_range(f"candidates.{name}.tune.{path}", text)
        lower = [name.lower() for name in given]
        if twice := next((name for name in given if lower.count(name.lower()) > 1), None):
            raise ValueError(f"candidates.{twice}: another name differs in case only, and names are folders")
        return given

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, given: int | list[int]) -> int | list[int]:
        if isinstance(given, int) and not 1 <= given <= 1000:
            raise ValueError(f"seeds={given}: a number of seeds is 1 to 1000")
        if isinstance(given, list) and (not given or len(set(given)) < len(given)):
            raise ValueError(f"seeds={given}: must be distinct, one at least")
        return given

    @model_validator(mode="after")
    def _tunes_as_told(self) -> "CompareSpec":
        ranges = [name for name, changes in self.candidates.items() if changes.get("tune")]
        if self.trials and not (ranges or self.tune):
            raise ValueError(f"trials={self.trials} has no effect without ranges to tune over: set tune")
        if not self.trials and (ranges or self.tune):
            where = "tune" if self.tune else f"candidates.{ranges[0]}.tune"
            raise ValueError(f"{where} has no effect with trials=0")
        untuned = [name for name in self.candidates if name not in ranges]
        if self.trials and not self.tune and untuned:
            raise ValueError(
                f"trials={self.trials}, but candidates.{untuned[0]} has nothing to tune: give it a range under tune, "
                "or set a range for all; all candidates are tuned with the same number of trials, or none"
            )
        return self

    def seed_list(self) -> list[int]:
        """The seeds."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)
