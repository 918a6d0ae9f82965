"""Choosing a candidate's settings: the same number of trials for each, in a study that is kept in a file.

Optuna's journal: JSON lines, which its dashboard reads too. A trial's proposal depends on the seed, its number and the
trials before it alone, so that a study gone on with proposes what an uninterrupted one does.
"""

import json
import math
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from kinsight.comparing.candidates import Range
from kinsight.errors import DataError, RunError, SpecError
from kinsight.specs.compare import Choices

_RANDOM_TRIALS = 5  # before the sampler learns from earlier ones; the declared values are one of them


class Trial(NamedTuple):
    """number: from 0. values: of the tuned settings. score: mean over the folds; None: failed."""

    number: int
    values: dict[str, Any]
    score: float | None


class Study:
    """The trials of one candidate."""

    def __init__(self, file: Path, ranges: Mapping[str, Range], declared: Mapping[str, Any], *, seed: int) -> None:
        """file: the journal, made if absent. declared: the values as written, tried first if within the ranges.

        Raises RunError without Optuna, SpecError when the file is of other ranges, DataError when it is no journal.
        """
        self._optuna = _optuna()
        self._ranges, self._seed, self._name = dict(ranges), seed, file.stem
        self._distributions = {path: self._distribution(found) for path, found in ranges.items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        _drop_unfinished_line(file)
        try:
            self._study = self._opened(file)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError("compare.study", f"is no journal of a study: {error}", field=str(file)) from None
        self._check_ranges(file)
        if not self._study.get_trials(deepcopy=False) and self._holds(declared):
            self._study.enqueue_trial(dict(declared))

    def _opened(self, file: Path) -> Any:
        storages = self._optuna.storages
        journal = storages.JournalStorage(storages.journal.JournalFileBackend(str(file)))
        return self._optuna.create_study(
            storage=journal, study_name=self._name, direction="maximize", load_if_exists=True
        )

    def _check_ranges(self, file: Path) -> None:
        now = json.dumps({path: asdict(found) for path, found in self._ranges.items()}, sort_keys=True)
        before = self._study.user_attrs.get("ranges")
        if before is None:
            self._study.set_user_attr("ranges", now)
        elif before != now:
            raise SpecError(
                "compare.other-ranges",
                f"was begun with other ranges: {before}, now {now}",
                field=str(file),
                remedy="give the candidate another name, or --overwrite to replace the comparison",
            )

    def trials(self) -> list[Trial]:
        """Those that have come to an end, in order; failed ones too."""
        ended = (self._optuna.trial.TrialState.COMPLETE, self._optuna.trial.TrialState.FAIL)
        found = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state in ended]
        return [Trial(trial.number, dict(trial.params), trial.value) for trial in found if self._is_whole(trial)]

    def next(self) -> Trial:
        """The trial to carry out: one that an interruption has left, or a new one."""
        running = self._optuna.trial.TrialState.RUNNING
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state == running:
                if self._is_whole(trial):
                    return Trial(trial.number, dict(trial.params), None)
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)  # stopped while being proposed
        self._study.sampler = self._sampler(len(self.trials()))
        asked = self._study.ask(fixed_distributions=self._distributions)
        return Trial(asked.number, dict(asked.params), None)

    def tell(self, trial: Trial, score: float | None) -> None:
        """A trial's mean over the folds; None: it failed."""
        if score is None or not math.isfinite(score):
            self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial.number, score)

    def best(self, among: int) -> Trial | None:
        """Of the first `among` trials that of the highest score, the earliest of several; None where all failed."""
        scored = [trial for trial in self.trials()[:among] if trial.score is not None]
        return max(scored, key=lambda trial: (trial.score or 0.0, -trial.number)) if scored else None

    def _is_whole(self, trial: Any) -> bool:
        return set(trial.params) == set(self._distributions)

    def _sampler(self, number: int) -> Any:
        seed = zlib.crc32(f"{self._name}/{self._seed}/{number}".encode())
        return self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM_TRIALS)

    def _distribution(self, found: Range) -> Any:
        distributions = self._optuna.distributions
        if isinstance(found, Choices):
            return distributions.CategoricalDistribution(found.values)
        if isinstance(found.low, int) and isinstance(found.high, int):
            return distributions.IntDistribution(found.low, found.high, log=found.log)
        return distributions.FloatDistribution(found.low, found.high, log=found.log)

    def _holds(self, declared: Mapping[str, Any]) -> bool:
        def within(value: Any, found: Range) -> bool:
            if isinstance(found, Choices):
                return value in found.values
            return isinstance(value, int | float) and not isinstance(value, bool) and found.low <= value <= found.high

        return all(within(declared.get(path), found) for path, found in self._ranges.items())


def _optuna() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library's own use of others
            import optuna
    except ImportError:
        raise RunError(
            "compare.optuna", "tuning needs optuna", field="trials", remedy="install it: uv sync --extra tuning"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _drop_unfinished_line(file: Path) -> None:
    """A process killed while writing leaves half a line, after which the journal could not be read."""
    if file.exists():
        whole = file.read_bytes()
        if whole and not whole.endswith(b"\n"):
            file.write_bytes(whole[: whole.rfind(b"\n") + 1])
