"""The `compare` job: every candidate on every fold with every seed, then the table and the page.

runs/          a training's folder for each candidate, fold and seed; those of a tuning under trial-...
folds/         the lists of images, see `folds`
studies/       a journal of trials for each tuned candidate, see `tuning`
test/          what each candidate's models reach on the test images
compare.json   every number; written last
report/        index.html: table, intervals, curves
events.jsonl   progress, for programs
spec.yaml      the settings
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kinsight import progress, storage
from kinsight.comparing.candidates import Candidate, Protocol, read_protocol
from kinsight.comparing.final_test import FinalTest, read_test_records, shared_names
from kinsight.comparing.folds import Fold, write_folds
from kinsight.comparing.page import write_page
from kinsight.comparing.results import Comparison, Result, as_json, conclude
from kinsight.comparing.runs import Outcome, Run, Trainer, carry_out, is_finished, make_run
from kinsight.comparing.table import print_table
from kinsight.comparing.tuning import Study, Trial
from kinsight.data.labels import NUMBERED  # said of lists that nobody but the comparison has written
from kinsight.errors import InterruptedRun, KinsightError, RunError
from kinsight.evaluation.settings import printed_yaml
from kinsight.parallel.device import pick_device
from kinsight.progress import clean
from kinsight.specs.compare import CompareSpec
from kinsight.specs.load import of
from kinsight.storage.local import remove_local
from kinsight.training import train
from kinsight.training.images import read_training_records
from kinsight.training.setup import prepare, settled
from kinsight.training.signals import StopRequest, stop_requests

HEADER = "compare.json"
_OURS = ("runs", "folds", "studies", "test", "report", HEADER, "events.jsonl", "spec.yaml")


def run(spec: CompareSpec | Mapping[str, Any], *, overwrite: bool = False) -> Comparison:
    """The `compare` job: `compare`, and the table on standard output. Raises RunError at the end if a run failed."""
    comparison = compare(spec, overwrite=overwrite)
    print_table(comparison)
    if failed := comparison.failed:
        number = sum(len(result.runs) for result in comparison.results)
        raise RunError(
            "compare.failed",
            f"{len(failed)} of {number} runs failed; the others are in {comparison.spec.output}",
            remedy="mend the cause and give the same command again: only those runs are carried out anew",
        )
    return comparison


def compare(
    spec: CompareSpec | Mapping[str, Any],
    *,
    overwrite: bool = False,
    trainer: Trainer = train,
    made_of: str | None = None,
) -> Comparison:
    """Compare candidates; what `kinsight compare` does but for the table.

    Finished runs at the output are kept, unfinished ones gone on with, so that a comparison may be stopped at any time,
    and extended by candidates, seeds and trials. overwrite: begin anew. trainer: carries out one run. made_of: whose
    losses, miners and samplers it has, where they are others than ours.
    Raises SpecError and DataError before anything is trained, InterruptedRun after Ctrl-C, StorageError.
    """
    spec = of(CompareSpec, spec)
    protocol = read_protocol(spec)
    output = storage.OutputDir(spec.output)
    output.check_writable()
    records = read_training_records(protocol.base)
    test_records = read_test_records(spec, records)
    if overwrite:
        _clear(output)
    place = output.address.child("folds")
    folds = {seed: write_folds(records, spec.folds, seed, place) for seed in _all_seeds(spec)}
    with output:
        output.pull(lambda name: name.startswith("studies/") or name == "events.jsonl")
        storage.write_text(output.path / "spec.yaml", printed_yaml(spec))
        events = progress.Events(output.path / "events.jsonl")
        with contextlib.closing(events), stop_requests() as stop:
            work = _Work(spec, protocol, folds, output, events, trainer, stop)
            results = work.all_runs()
            if test_records is not None:
                work.test(results, FinalTest(test_records, output.address))
        comparison = replace(conclude(spec, protocol, folds[spec.seed_list()[0]], results), made_of=made_of)
        if test_records is not None:
            comparison = replace(comparison, test_remark=shared_names(test_records, records))
        write_page(comparison, output.path, told=spec.output)
        text = json.dumps(clean(as_json(comparison)), indent=1, ensure_ascii=False)
        storage.write_text(output.path / HEADER, text + "\n")
        output.publish(HEADER)
    return comparison


def _all_seeds(spec: CompareSpec) -> list[int]:
    """The seeds of the runs, and one of its own for tuning."""
    seeds = spec.seed_list()
    return [*seeds, _tuning_seed(spec)] if spec.trials else seeds


def _tuning_seed(spec: CompareSpec) -> int:
    return next(number for number in range(2**31) if number not in spec.seed_list())


def _clear(output: storage.OutputDir) -> None:
    """Remove an earlier comparison; anything else is left alone."""
    settings = output.address.child("spec.yaml")
    if not (storage.exists(settings) and storage.read_text(settings).startswith("job: compare\n")):
        return
    for name in _OURS:
        if output.is_remote:
            storage.remove_tree(output.address.child(name))
        else:
            remove_local(output.path / name)


class _Work:
    """Carries out what is still to be done, in an order in which partial results are comparable."""

    def __init__(
        self,
        spec: CompareSpec,
        protocol: Protocol,
        folds: dict[int, list[Fold]],
        output: storage.OutputDir,
        events: progress.Events,
        trainer: Trainer,
        stop: StopRequest,
    ) -> None:
        self._spec, self._protocol, self._folds = spec, protocol, folds
        self._output, self._events, self._trainer, self._stop = output, events, trainer, stop
        self._share = 0.0

    def all_runs(self) -> list[Result]:
        """Tuning, then every fold and seed; one result per candidate, without statistics."""
        spec = self._spec
        results = [Result(candidate) for candidate in self._protocol.candidates]
        each = spec.folds.number * (spec.trials + len(spec.seed_list()))
        sizes = ", ".join(str(fold.classes) for fold in self._folds[spec.seed_list()[0]])
        progress.say(
            f"comparing   {len(results)} candidates on {spec.folds.number} folds of {sizes} classes; "
            f"{len(results) * each} runs"
        )
        for name in self._protocol.ignored:
            progress.say(f"ignored     {name} of the base: the comparison sets it for all")
        with (
            progress.task("compare", len(results) * each, "runs", events=self._events) as self._bar,
            progress.hosted(self._show, hide=[NUMBERED]),
        ):
            self._look_ahead(results)
            for result in results:
                self._tune(result)
            for seed in spec.seed_list():
                for fold in range(spec.folds.number):
                    for result in results:
                        made = self._run_of(result, fold, seed)
                        result.runs.append((made, self._carry_out(made)))
        return results

    def _look_ahead(self, results: list[Result]) -> None:
        """Errors in any candidate's settings are told before the first run costs its time."""
        for result in results:
            made = self._make(result.candidate, 0, self._spec.seed_list()[0], {})
            if self._spec.trials or not is_finished(made):
                try:
                    with contextlib.closing(prepare(settled(made.spec), pick_device(made.spec.device))):
                        pass
                except KinsightError as error:
                    where = f"candidates.{result.name}" + (f".{error.field}" if error.field else "")
                    raise type(error)(error.code, error.message, field=where, remedy=error.remedy) from None

    def _tune(self, result: Result) -> None:
        """Carry out the candidate's trials and choose the best of them."""
        if not self._spec.trials:
            return
        file = self._output.path / "studies" / f"{result.name}.jsonl"
        study = Study(file, result.candidate.ranges, result.candidate.declared, seed=self._spec.folds.seed)
        seed, folds = _tuning_seed(self._spec), self._spec.folds.number
        result.trials = study.trials()[: self._spec.trials]
        self._bar.skip_to(self._bar.done + len(result.trials) * folds)
        while len(result.trials) < self._spec.trials:
            trial = study.next()
            outcomes = []
            for fold in range(folds):
                made = self._make(result.candidate, fold, seed, trial.values, trial=trial.number, tried=True)
                outcomes.append(self._carry_out(made))
            scores = [outcome.metrics.get(self._spec.metric) for outcome in outcomes]
            known = [score for score in scores if score is not None]
            study.tell(trial, sum(known) / len(known) if len(known) == len(scores) else None)
            self._output.sync()
            result.trials = study.trials()[: self._spec.trials]
        result.chosen = study.best(self._spec.trials)
        if result.chosen is None:
            progress.warn(f"{result.name}: every trial failed; its runs have the settings as declared")

    def _run_of(self, result: Result, fold: int, seed: int) -> Run:
        chosen = result.chosen or Trial(0, {}, None)
        number = chosen.number if result.chosen is not None else None
        return self._make(result.candidate, fold, seed, chosen.values, trial=number)

    def _make(self, candidate: Candidate, fold: int, seed: int, values: dict[str, Any], **trial: Any) -> Run:
        folds, output = self._folds[seed], self._output.address
        return make_run(self._protocol, candidate, folds, output, fold=fold, seed=seed, values=values, **trial)

    def _carry_out(self, made: Run) -> Outcome:
        self._share = 0.0
        known = is_finished(made)
        self._bar.note(run=made.name)
        try:
            outcome = carry_out(made, self._protocol, self._trainer)
        except (InterruptedRun, KeyboardInterrupt):
            raise self._interrupted(f"in run {made.name}") from None
        if known:
            self._bar.skip_to(round(self._bar.done + 1))
        else:
            self._bar.advance(1 - self._share)
            self._tell(made, outcome)
        if self._stop.wanted:
            raise self._interrupted(f"after run {made.name}")
        return outcome

    def _interrupted(self, where: str) -> InterruptedRun:
        done = f"{int(self._bar.done)} of {self._bar.total:,} runs are done and kept in {self._spec.output}"
        return InterruptedRun(
            "compare.interrupted", f"stopped {where}; {done}", remedy="give the same command again to go on"
        )

    def _tell(self, made: Run, outcome: Outcome) -> None:
        """What a run came to, as an event; a failure also for people."""
        place = {"candidate": made.candidate, "fold": made.fold, "seed": made.seed, "trial": made.trial}
        told = {"metrics": outcome.metrics, "steps": outcome.steps, "seconds": outcome.seconds}
        self._events.write("run", **place, **(told if outcome.failed is None else {"failed": outcome.failed}))
        if outcome.failed is not None:
            progress.warn(f"{made.name} failed: {outcome.failed}")
        self._output.sync()

    def _show(self, inner: progress.Task) -> None:
        """The share of the run at hand counts, too, so that the time left is known from the start."""
        if inner.name == "train" and inner.total:
            share = min(max(inner.done / inner.total, self._share), 1.0)
            self._bar.advance(share - self._share)
            self._share = share

    def test(self, results: list[Result], images: FinalTest) -> None:
        """Measure on the test images what has all its folds' models."""
        groups = [
            (result, [run for run, outcome in result.done if run.seed == seed])
            for result in results
            for seed in self._spec.seed_list()
        ]
        whole = [(result, runs) for result, runs in groups if len(runs) == self._spec.folds.number]
        with (
            contextlib.closing(images),
            progress.task("test", sum(len(runs) for _, runs in whole), "models", events=self._events) as bar,
        ):
            for result, runs in whole:
                result.tests.append(images.measure(runs, bar.advance))
                if self._stop.wanted:
                    raise self._interrupted("while the test images were measured")
