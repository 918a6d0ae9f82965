"""The page's four commands as they stand there, from TFRecords in a bucket to a measured model in that bucket.

Their oss:// is a local server of S3's protocol. inception_v4 at 299 pixels takes its time: that is behind the slow
marker; otherwise parameters are added at the end of -Dparam_config, of which the last counts.
"""

import json
from pathlib import Path

import pytest
import torch
from compat_cases import Pai
from pai_data import write_records
from pai_pages import COMMANDS, SMALL, appended
from safetensors.torch import save_file

from kinsight.models.artefact import load_header
from kinsight.models.backbones import build
from kinsight.models.names import resolve


def put_weights(name: str, size: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights as the published ones: nothing is published of lenet, and nothing is fetched here."""
    folder.mkdir()
    torch.manual_seed(0)
    save_file(build(resolve(name), in_chans=3, image_size=size).state_dict(), folder / f"{name}.safetensors")
    monkeypatch.setenv("KINSIGHT_WEIGHTS", str(folder))


def check_trained(folder: Path, several: bool, multilabel: bool) -> None:
    run = folder / ("test/cifar_inception_v4" + "_dis" * several)
    assert (run / "run.json").exists()
    header = load_header(str(run / "bundle"))
    assert header.task == ("multilabel" if multilabel else "classification")
    assert len(header.class_names) == 10
    metrics = json.loads((run / "evaluation/metrics.json").read_text())
    name = "map" if multilabel else "accuracy"
    assert 0 <= metrics[name] <= 1
    assert (run / "evaluation/report/index.html").exists()


SLOW = ("several", "single-multilabel")  # as the others, but for the loss


@pytest.mark.parametrize("name", [pytest.param(each, marks=[pytest.mark.slow] * (each in SLOW)) for each in COMMANDS])
def test_page_with_a_small_network(name: str, bucket: Path, tmp_path: Path, pai: Pai, monkeypatch) -> None:
    several, multilabel = name.startswith("several"), "multilabel" in name
    for part in range(2):
        write_records(
            bucket / f"data/test/cifar10/train_{part}.tfrecord", range(20 * part, 20 * part + 20), several=multilabel
        )
    put_weights("lenet", 28, tmp_path / "weights", monkeypatch)
    done = pai("-e", appended(COMMANDS[name], SMALL))
    assert done.code == 0, done.err
    check_trained(bucket, several, multilabel)
    assert "-Dbuckets {bucket_name}.{oss_host}/{path}: not filled in" in done.err
    assert done.err.count("this machine has none that torch can use: computing on the CPU") == 1
    assert f"{tmp_path}/weights/lenet.safetensors" in (bucket / _run_json(several)).read_text()
    if several:
        assert "1 ps and 3 workers" in done.err
        assert "a step of 96 images, but there are 40: a step is all of them" in done.err
    else:  # ranks write to standard error themselves
        assert "validation 20 images of 10 classes" in done.err
    again = pai("-e", appended(COMMANDS[name], SMALL))  # measures what is there
    assert again.code == 0, again.err
    assert "holds this very training: measuring it" in again.err


def _run_json(several: bool) -> str:
    return f"test/cifar_inception_v4{'_dis' * several}/bundle/bundle.json"


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_page_byte_for_byte(name: str, bucket: Path, tmp_path: Path, pai: Pai, monkeypatch) -> None:
    multilabel = "multilabel" in name
    write_records(bucket / "data/test/cifar10/all.tfrecord", range(4), several=multilabel)
    put_weights("inception_v4", 299, tmp_path / "weights", monkeypatch)
    done = pai("-e", COMMANDS[name])
    assert done.code == 0, done.err
    check_trained(bucket, name.startswith("several"), multilabel)
    assert "inception_v4.safetensors" in (bucket / _run_json(name.startswith("several"))).read_text()


def test_what_each_category_and_pictures_change(bucket: Path, pai: Pai, caplog: pytest.LogCaptureFixture) -> None:
    write_records(bucket / "data/test/cifar10/all.tfrecord", range(20), several=True)
    more = f"{SMALL} --image_size 32 --use_pretrained_model false --train_batch_size 8"
    evaluation = bucket / "test/cifar_inception_v4/evaluation"
    images = []
    for changes in ("--eval_each_category true --num_visualizations 7", "--num_visualizations 0"):
        done = pai("-e", appended(COMMANDS["single-multilabel"], f"{more} {changes}"))
        assert done.code == 0, done.err
        assert (evaluation / "per_class.csv").exists() == ("true" in changes)
        images.append((evaluation / "report/index.html").read_text().count("<img"))
        if len(images) == 1:  # the other command finds the same training
            said = " ".join([*caplog.messages, done.err])
            assert said.count("lenet was made for images of 28 pixels, and gets 32") == 1
    assert images[0] >= images[1] + 7
