"""`kinsight predict` as a real process that is killed, and the same command again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kinsight
from kinsight.errors import SpecError

# Sends itself a signal before or after the n-th part, or before the output is published.
SCRIPT = """
import os, sys
from kinsight.cli import main
from kinsight.predicting.parts import Parts
moment, name, count, number = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
inner, calls = getattr(Parts, name), []
def outer(*args, **named):
    calls.append(args)
    if len(calls) == count and moment == "before":
        os.kill(os.getpid(), number)
    inner(*args, **named)
    if len(calls) == count and moment == "after":
        os.kill(os.getpid(), number)
setattr(Parts, name, outer)
sys.exit(main(sys.argv[5:]))
"""


def words(pictures: Path, bundle: Path, output: Path) -> list[str]:
    settings = ["--workers", "0", "--device", "cpu", "--batch-size", "4", "--save-seconds", "0.000001"]
    return ["predict", str(pictures / "images"), "--bundle", str(bundle), "--output", str(output), *settings]


def killed(moment: str, name: str, count: int, number: int, *given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, moment, name, str(count), str(int(number)), *given]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.parametrize(
    ("moment", "name", "count", "ending"),
    [("before", "add", 3, "jsonl"), ("after", "add", 3, "parquet"), ("before", "publish", 1, "jsonl")],
)
def test_killed_and_gone_on_with(
    moment: str, name: str, count: int, ending: str, pictures: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    whole, broken = tmp_path / f"whole.{ending}", tmp_path / f"broken.{ending}"
    given = words(pictures, bundles["multilabel"], broken)
    result = killed(moment, name, count, signal.SIGKILL, *given)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert not broken.exists()
    kept = sorted(path.name for path in (tmp_path / f"{broken.name}.parts").iterdir())
    assert len(kept) == {"add": count if moment == "before" else count + 1, "publish": 9}[name]
    from kinsight.cli import main

    assert main(given) == 0
    assert main(words(pictures, bundles["multilabel"], whole)) == 0
    assert broken.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([whole.name, broken.name])


def test_interrupted_keeps_what_is_answered(pictures: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    given = words(pictures, bundles["classification"], tmp_path / "out")
    result = killed("after", "add", 2, signal.SIGINT, *given)
    assert result.returncode == 130, result.stderr
    assert "of 30 images have their answers" in result.stderr
    assert "give the same command again" in result.stderr
    from kinsight.cli import main

    assert main(given) == 0
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [line["class"] for line in lines] == [number for number in range(6) for _ in range(5)]


def test_another_job_does_not_go_on_with_it(pictures: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    given = words(pictures, bundles["classification"], tmp_path / "out")
    assert killed("after", "add", 2, signal.SIGKILL, *given).returncode == -signal.SIGKILL
    settings = {"input": [str(pictures / "images")], "output": str(tmp_path / "out"), "workers": 0, "device": "cpu"}
    for other in (
        {"bundle": str(bundles["multilabel"])},
        {"bundle": str(bundles["classification"]), "top_k": 3},
        {"bundle": str(bundles["classification"]), "input": [str(pictures / "images/1")]},
    ):
        with pytest.raises(SpecError, match="beginning of another job: "):
            kinsight.predict(settings | other)
    kinsight.predict(settings | {"bundle": str(bundles["classification"])})  # another batch size is no other job


def test_parts_without_the_job_they_belong_to_are_nobodys(
    pictures: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """As a kill leaves them while another job's are being removed."""
    given = words(pictures, bundles["classification"], tmp_path / "out")
    assert killed("after", "add", 2, signal.SIGKILL, *given).returncode == -signal.SIGKILL
    (tmp_path / "out.parts/job.json").unlink()
    other = words(pictures / "images/..", bundles["multilabel"], tmp_path / "out")
    assert killed("after", "add", 1, signal.SIGKILL, *other).returncode == -signal.SIGKILL
    assert len(list((tmp_path / "out.parts").glob("part-*"))) == 1
    from kinsight.cli import main

    assert main(other) == 0
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert len(lines) == 30 and all("predictions" in line for line in lines)


def test_failed_images_are_counted_over_all_runs(
    pictures: Path, bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").mkdir()
    for number in range(5):
        (tmp_path / f"bad/{number}.png").touch()
    given = words(pictures, bundles["classification"], tmp_path / "out")
    given[1:2] = [str(tmp_path / "bad"), given[1]]
    assert killed("after", "add", 2, signal.SIGKILL, *given).returncode == -signal.SIGKILL
    from kinsight.cli import main

    assert main(given) == 0
    said = capsys.readouterr().err
    assert "predicted   30 of 35 images" in said
    assert "5 images have no answer in all" in said
