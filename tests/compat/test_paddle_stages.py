"""Trainings after trainings: each fine-tuning, other embeddings, going on, starting anew, models on a server."""

import json
from pathlib import Path

import numpy as np
import pytest
from compat_cases import SHORT, SMALL, Compat, last, trained
from servers import rclone_server

import kinsight
from kinsight.cli import main

CONV = ["--model=conv4"]


@pytest.fixture(scope="module")
def softmax(tmp_path_factory: pytest.TempPathFactory, miniature: Path) -> str:
    """A model trained with softmax."""
    folder = tmp_path_factory.mktemp("softmax")
    flags = ["--train_batch_size=64", f"--data_dir={miniature}", f"--model_save_dir={folder}", "--use_gpu=False"]
    assert main(["compat", "train_elem", *SHORT, *CONV, *flags]) == 0
    return str(folder / "conv4/2")


@pytest.mark.parametrize(
    ("loss", "flags", "said"),
    [
        ("triplet", [], "159 images a step, 53 triplets"),
        ("quadruplet", ["--margin=0.2"], "left out"),
        ("npairs", ["--npairs_reg_lambda=0.02"], "left out"),
    ],
)
def test_the_other_fine_tunings(
    compat: Compat, here: Path, softmax: str, loss: str, flags: list[str], said: str
) -> None:
    words = ["train_pair.py", *SHORT, *CONV, "--train_batch_size=160", f"--pretrained_model={softmax}"]
    outcome = trained(compat(*words, f"--loss_name={loss}", *flags))
    assert said in outcome.err and f"at first {softmax}" in outcome.err
    settings = json.loads((here / "output/conv4/2/bundle.json").read_text())["spec"]
    assert settings["loss"]["kind"] == loss and settings["model"]["init_from"] == softmax


def test_an_embedding_and_a_second_stage_over_classes(compat: Compat, here: Path, softmax: str) -> None:
    flags = [*SHORT, *CONV, "--train_batch_size=64", "--embedding_size=32", f"--pretrained_model={softmax}"]
    outcome = trained(compat("train_elem.py", *flags))
    assert "its class weights are left out: their shapes differ" in outcome.err
    assert kinsight.load("output/conv4/2").embedding_dim == 32
    outcome = compat("eval.py", *SMALL, *CONV, "--pretrained_model=output/conv4/2")
    assert outcome.code == 2 and "--embedding_size: 0, but the model was trained with 32" in outcome.err
    outcome = compat("eval.py", *SMALL, *CONV, "--pretrained_model=output/conv4/2", "--embedding_size=32")
    assert outcome.code == 0 and "End test 18, test_recall" in last(outcome)


def test_class_weights_of_another_loss_are_left_out(compat: Compat, here: Path, softmax: str) -> None:
    flags = [*SHORT, *CONV, "--train_batch_size=64", f"--pretrained_model={softmax}", "--loss_name=arcmargin"]
    outcome = trained(compat("train_elem.py", *flags))
    assert f"left out    the class weights in {softmax}: they are softmax's, not arcmargin's" in outcome.err


def test_going_on_and_starting_anew(compat: Compat, here: Path) -> None:
    words = ["train_elem", *SHORT, "--model=conv4", "--train_batch_size=64", "--test_iter_step=0", "--use_gpu=0"]
    assert compat(*words).code == 0
    (here / "output/conv4/run-softmax/run.json").unlink()
    outcome = compat(*words)
    assert outcome.code == 0 and "going on    from step 2 of 2" in outcome.err and "replaced" not in outcome.err

    outcome = compat(*words, "--checkpoint=output/conv4/2", "--total_iter_num=3", "--model_save_dir=longer")
    assert outcome.code == 0, outcome.err
    assert "going on    from step 2 of 3, by output/conv4/2" in outcome.err
    assert [line.split()[3] for line in outcome.out.splitlines() if "trainbatch" in line] == ["3,"]
    assert (here / "longer/conv4/3/bundle.json").exists()

    before = (here / "output/conv4/2/model.safetensors").read_bytes()
    outcome = compat(*words, "--loss_name=arcmargin")
    assert "output/conv4 holds models of an earlier training (2): those of equal number are replaced" in outcome.err
    assert (here / "output/conv4/2/model.safetensors").read_bytes() != before
    outcome = compat(*words, "--lr=0.1")
    assert outcome.code == 0
    assert "output/conv4/run-softmax holds an earlier training: it is replaced" in outcome.err
    outcome = compat(*words, "--lr=0.1", "--checkpoint=output/conv4/2")
    assert outcome.code == 2 and "is at step 2, and this training ends at step 2 of 2" in outcome.err


def test_models_on_a_server(
    compat: Compat, here: Path, miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rclone_server(tmp_path / "served") as server:
        for name, value in server.environment("s3").items():
            monkeypatch.setenv(name, value)
        place = f"s3://{server.bucket}/out"
        words = ["--model=conv4", "--image_shape=3,16,16", "--use_gpu=0"]
        training = [*words, "--train_batch_size=64", "--total_iter_num=2", "--save_iter_step=1", "--test_iter_step=0"]
        outcome = compat("train_elem", *training, f"--model_save_dir={place}")
        assert outcome.code == 0, outcome.err
        files = {path.name for path in (tmp_path / "served" / server.bucket / "out/conv4/1").iterdir()}
        assert files == {"bundle.json", "model.safetensors", "class_weights.safetensors", "checkpoint"}
        outcome = compat("train_elem", *training, "--total_iter_num=3", f"--checkpoint={place}/conv4/2")
        assert outcome.code == 0 and "going on    from step 2 of 3" in outcome.err, outcome.err
        outcome = compat("infer", *words, f"--pretrained_model={place}/conv4/2")
        assert outcome.code == 0, outcome.err
        features = tmp_path / "served" / server.bucket / "out/conv4/2-features"
        assert np.load(features / "vectors.npy").shape == (18, 64) and (features / "scores.parquet").exists()
        outcome = compat("eval", *words, f"--pretrained_model={place}/conv4/2")
        assert outcome.code == 0 and "End test 18, test_recall" in last(outcome), outcome.err
