"""Runs that are killed at awkward moments and go on, against runs that nobody disturbed: the same bits."""

import signal
from pathlib import Path

from train_runs import Settings, checkpoints, finish, flags, outcome, rows, start

from kinsight.storage.local import ASIDE_PREFIX

NEVER = {"checkpoint.every-epochs": 1000, "checkpoint.every-minutes": 1000}
EACH_STEP = {"checkpoint.every-epochs": 1000, "checkpoint.every-minutes": 1e-6}


def photo(settings: Settings, images: Path) -> Settings:
    """All that holds state: dropout, running statistics (lengths, too), Adam's moments, an average, memory, draws."""
    return settings | {
        "data.validation.path": str(images / "validation/list.txt"),
        "data.augment.kind": "photo",
        "model.neck.kind": "bnneck",
        "model.neck.dropout": 0.3,
        "optimizer.kind": "adamw",
        "optimizer.lr": 0.003,
        "loss.ce.weight": 1.0,
        "extra-losses": [
            {
                "kind": "triplet",
                "weight": 0.5,
                "miner": {"kind": "distance-weighted"},
                "memory": {"size": 40, "warmup_steps": 2},
            },
            {"kind": "adaface", "weight": 0.2, "t_alpha": 0.3},
        ],
        "ema.decay": 0.9,
        "clip-norm": 5,
        "steps": 26,
    }


def words(settings: Settings, **others: object) -> list[str]:
    return ["train", *flags(settings | others)]


def test_killed_many_times(settings: Settings, image_folder: Path, tmp_path: Path) -> None:
    base = photo(settings, image_folder)
    output, log = tmp_path / "killed", tmp_path / "log"
    finish(words(base | NEVER, **{"output": str(tmp_path / "whole"), "data.workers": 2}), tmp_path / "whole.log")

    here = base | {"output": str(output)}

    def kill(moment, *, also: Settings) -> None:
        assert start(words(here | also), log).signal_when(moment) == -signal.SIGKILL

    # before any checkpoint, after a validation has found a best model
    kill(lambda: (output / "best/bundle.json").exists(), also=NEVER | {"data.workers": 1})
    assert checkpoints(output) == []
    # in the middle of an epoch
    kill(lambda: "step-00000006" in checkpoints(output), also=EACH_STEP | {"data.workers": 2})
    # while a checkpoint is written
    kill(lambda: bool(list(output.glob(f"checkpoints/{ASIDE_PREFIX}step-0000001?/*.safetensors"))), also=EACH_STEP)
    assert list(output.glob(f"checkpoints/{ASIDE_PREFIX}*"))
    # between a validation and the next checkpoint
    before = checkpoints(output)
    number = len([row for row in rows(output) if row["kind"] == "validation"])
    kill(lambda: len([r for r in rows(output) if r["kind"] == "validation"]) > number, also=NEVER | {"data.workers": 1})
    assert checkpoints(output) == before
    # after the last step, before the run is marked finished
    kill(lambda: "step-00000026" in checkpoints(output), also=EACH_STEP | {"data.workers": 2})
    assert not (output / "run.json").exists()

    text = finish(words(here), log)
    assert "from step 26 of 26" in text
    assert not list(output.glob(f"checkpoints/{ASIDE_PREFIX}*"))
    assert outcome(output) == outcome(tmp_path / "whole")
