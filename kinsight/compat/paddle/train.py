"""`train_elem.py` and `train_pair.py`: a `train` job whose models are saved as the scripts save them."""

import contextlib
import sys
import time

from kinsight import storage
from kinsight.compat.flags import Values
from kinsight.compat.paddle.common import begin
from kinsight.compat.paddle.lines import printed
from kinsight.compat.paddle.specs import train_spec
from kinsight.compat.paddle.words import in_flags
from kinsight.data import read_records
from kinsight.models.artefact import HEADER as BUNDLE
from kinsight.progress import say, warn
from kinsight.specs.train import TrainSpec
from kinsight.training import train
from kinsight.training.run_folder import HEADER, SPEC
from kinsight.training.run_settings import other_settings, parse_settings


def train_elem(values: Values) -> None:
    """Train with softmax or arcmargin. Raises KinsightError."""
    _run(values)


def train_pair(values: Values) -> None:
    """Train with triplet, quadruplet, eml or npairs. Raises KinsightError."""
    _run(values)


def _run(values: Values) -> None:
    begin(values)
    with in_flags():
        spec = train_spec(values)
        replace = _replaces(spec)
        with _display(values, spec):
            train(spec, overwrite=replace)
    assert spec.snapshots is not None, "the translation has seen to it"
    say(f"models      {spec.snapshots.path}/ITERATION")
    say(f"the run     {spec.output}: curves, report, and {SPEC}, its settings for kinsight train --spec")


def _replaces(spec: TrainSpec) -> bool:
    """Whether an earlier training gives way, as it always did; an unfinished one of the same settings goes on."""
    assert spec.snapshots is not None and spec.snapshots.path is not None, "the translation has seen to it"
    output, models = storage.Address.parse(spec.output), storage.Address.parse(spec.snapshots.path)
    if storage.exists(output.child(SPEC)):
        before = parse_settings(storage.read_text(output.child(SPEC)), str(output.child(SPEC)))
        if not other_settings(before, spec) and not storage.exists(output.child(HEADER)):
            return False
        warn(f"{output} holds an earlier training: it is replaced")
    if storage.is_directory(models):
        names = {entry.relative for entry in storage.list_files(models)}
        saved = sorted(
            int(head) for head, _, name in (n.partition("/") for n in names) if name == BUNDLE and head.isdecimal()
        )
        if saved:
            numbers = ", ".join(map(str, saved if len(saved) < 5 else [saved[0], saved[1], "...", saved[-1]]))
            warn(f"{models} holds models of an earlier training ({numbers}): those of equal number are replaced")
    return True


def _display(values: Values, spec: TrainSpec) -> contextlib.AbstractContextManager[None]:
    output = storage.Address.parse(spec.output)
    if not output.is_local:
        say(f"rows        {output}/metrics.jsonl; lines are printed only where model_save_dir is local")
        return contextlib.nullcontext()
    images = len(read_records(spec.data.validation, own_vocabulary=True)) if spec.data.validation is not None else 0
    return printed(
        output.local_path / "metrics.jsonl",
        time.time(),
        sys.stdout,
        loss=values["loss_name"],
        batch_size=spec.batch.size,
        test_images=images,
    )
