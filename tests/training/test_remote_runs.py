"""List, images and output on an S3 server: killed, resumed by two processes, mirrored completely."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from paced import rest_at_each_step
from safetensors.numpy import load_file
from servers import rclone_server
from train_runs import Settings, checkpoints, finish, finish_group, flags, rows, start

import kinsight


def test_everything_remote(
    settings: Settings, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rclone_server(tmp_path / "served") as server:
        environment = server.environment("s3")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        bucket = tmp_path / "served" / server.bucket
        shutil.copytree(image_folder, bucket / "images 图")
        output = bucket / "runs/first"
        base = settings | {
            "data.train.path": f"s3://{server.bucket}/images 图/train/list.txt",
            "data.validation.path": f"s3://{server.bucket}/images 图/validation/list.txt",
            "data.augment.kind": "light",
            "model.neck.kind": "bnneck",
            "output": f"s3://{server.bucket}/runs/first",
            "checkpoint.every-minutes": 1e-6,
            "checkpoint.keep": 2,
        }
        words = ["train", *flags(base)]
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        environment["KINSIGHT_SCRATCH"] = str(scratch)

        run = start(words, tmp_path / "log1", before=rest_at_each_step, **environment)
        run.signal_when(lambda: len(checkpoints(output)) == 2)
        step = max(int(name.removeprefix("step-")) for name in checkpoints(output))
        assert not (output / "run.json").exists()

        # stopped on request: everything is on the server before the process is gone
        others = ["train", *flags(base | {"data.workers": 1})]
        run = start(others, tmp_path / "log2", before=rest_at_each_step, **environment)
        assert run.signal_when(lambda: max(checkpoints(output)) > f"step-{step:08d}", signal.SIGINT) == 130
        assert "from step" in run.text and "the state is saved in s3://" in run.text
        _is_mirrored(output)

        text = finish_group(words, 2, tmp_path / "log3", **environment)
        assert "from step" in text
        assert f"bundle      s3://{server.bucket}/runs/first/bundle" in text
        _is_mirrored(output)
        assert len(checkpoints(output)) == 2
        assert len(list(scratch.iterdir())) == 1, "only the killed process could not clean up"

        finish(words, tmp_path / "log4", code=2, **environment)  # finished
        local = base | {"output": str(tmp_path / "local"), "data.train.path": settings["data.train.path"]}
        local["data.validation.path"] = str(image_folder / "validation/list.txt")
        finish(["train", *flags(local)], tmp_path / "log5")
        assert [row["step"] for row in rows(output)] == [row["step"] for row in rows(tmp_path / "local")]
        assert json.loads((output / "run.json").read_text())["position"]["step"] == 12
        assert kinsight.load(f"s3://{server.bucket}/runs/first") is not None
        assert (
            load_file(output / "bundle/model.safetensors").keys() == load_file(output / "best/model.safetensors").keys()
        )


def _is_mirrored(output: Path) -> None:
    """Every file that a checkpoint's header names is there, in full."""
    for header in output.glob("checkpoints/step-*/checkpoint.json"):
        for name, file in json.loads(header.read_text())["files"].items():
            assert (header.parent / name).stat().st_size == file["bytes"], (header.parent, name)
    for name in ("spec.yaml", "metrics.jsonl", "events.jsonl", "best/bundle.json"):
        assert (output / name).exists(), name
    assert list(output.glob("tensorboard/events*"))
