"""The documented sequence from end to end: the README's command lines as written, on a miniature data set.

Only how long they train and how large network and images are is overridden, by their own flags.
"""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from compat_cases import Compat, Outcome
from servers import rclone_server

import kinsight
from kinsight.evaluation.class_weights import read_class_weights

# With the blanks behind backslashes that stand in it.
TRAIN_ELEM = """python train_elem.py  \\
        --model=ResNet50 \\
        --train_batch_size=256 \\
        --test_batch_size=50 \\
        --lr=0.01 \\
        --total_iter_num=30000 \\
        --use_gpu=True \\
        --pretrained_model=${path_to_pretrain_imagenet_model} \\
        --model_save_dir=${output_model_path} \\
        --loss_name=arcmargin \\
        --arc_scale=80.0 \\ 
        --arc_margin=0.15 \\
        --arc_easy_margin=False
"""  # noqa: W291
TRAIN_PAIR = """python train_pair.py  \\
        --model=ResNet50 \\
        --train_batch_size=160 \\
        --test_batch_size=50 \\
        --lr=0.0001 \\
        --total_iter_num=100000 \\
        --use_gpu=True \\
        --pretrained_model=${path_to_pretrain_arcmargin_model} \\
        --model_save_dir=${output_model_path} \\
        --loss_name=eml \\
        --samples_each_class=2
"""
EVAL = """python eval.py \\
       --model=ResNet50 \\
       --batch_size=50 \\
       --pretrained_model=${path_to_pretrain_model} \\

"""
INFER = """python infer.py \\
       --model=ResNet50 \\
       --batch_size=1 \\         
       --pretrained_model=${path_to_pretrain_model}
"""  # noqa: W291
SMALL = ["--model=ResNet18", "--image_shape=3,24,24"]
SHORT = [*SMALL, "--total_iter_num=2", "--display_iter_step=1", "--test_iter_step=2", "--save_iter_step=2"]


def documented(text: str, **variables: str) -> list[str]:
    """The words of a documented command line, its lines joined as its author meant."""
    for name, value in variables.items():
        text = text.replace(f"${{{name}}}", value)
    return shlex.split(re.sub(r"\\\s*\n", " ", re.sub(r"\$\{\w+\}", "", text)))


def trained(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.err
    assert (
        len(re.findall(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] trainbatch \d+, lr \S+, loss \S+", outcome.out, re.M)) == 2
    )
    tested = re.findall(
        r"^\[[-\d]+ [:\d]+\] test_img_num 18, trainbatch 2, test_recall (\d\.\d{5})$", outcome.out, re.M
    )
    assert len(tested) == 1, outcome.out
    return outcome


def test_train_fine_tune_evaluate_infer(compat: Compat, here: Path) -> None:
    words = documented(TRAIN_ELEM, output_model_path="output")
    outcome = trained(compat(*words, *SHORT))
    assert "use_gpu=True, but this machine has no GPU" in outcome.err
    assert "--pretrained_model is empty" in outcome.err
    assert re.search(r"acc1 \d\.\d{4}, time \d+\.\d\d sec$", outcome.out, re.M)
    saved = "output/ResNet18/2"
    assert {"bundle.json", "model.safetensors", "class_weights.safetensors", "checkpoint"} == {
        path.name for path in Path(saved).iterdir()
    }
    assert kinsight.load(saved).embedding_dim == 512

    words = documented(TRAIN_PAIR, output_model_path="output-eml", path_to_pretrain_arcmargin_model=saved)
    outcome = trained(compat(*words, *SHORT))
    assert "left out    the class weights in output/ResNet18/2: eml compares images" in outcome.err
    tuned = "output-eml/ResNet18/2"
    assert read_class_weights(tuned) is None

    words = documented(EVAL, path_to_pretrain_model=tuned)
    outcome = compat(*words, *SMALL[:1])
    assert outcome.code == 0, outcome.err
    assert re.fullmatch(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] End test 18, test_recall \d\.\d{5}", last(outcome))
    metrics = json.loads((here / f"{tuned}-eval/metrics.json").read_text())
    assert last(outcome).endswith(f"{metrics['recall@1']:.5f}")
    assert json.loads((here / tuned / "bundle.json").read_text())["thresholds"] is None

    words = documented(INFER, path_to_pretrain_model=saved)
    outcome = compat(*words, *SMALL[:1])
    assert outcome.code == 0, outcome.err
    lines = re.findall(r"^Test-(\d+)-feature: \[(.*)\]$", outcome.out, re.M)
    assert [int(number) for number, _ in lines] == list(range(18))
    vectors = np.load(here / f"{saved}-features/vectors.npy")
    assert vectors.shape == (18, 512)
    np.testing.assert_allclose([float(text) for text in lines[7][1].split()], vectors[7, :5], rtol=1e-4)
    table = pq.read_table(here / f"{saved}-features/part-00000.parquet")
    assert table["uri"][7].as_py() == str(here / "data/Stanford_Online_Products/cabinet_final/100000000089_1.JPG")
    scores = pq.read_table(here / f"{saved}-features/scores.parquet").to_pydict()
    assert scores["id"] == list(range(18))
    assert {len(names) for names in scores["classes"]} == {5} and set(scores["classes"][0]) <= set(
        map(str, range(1, 87))
    )
    assert all(0 < sum(found) <= 1.0001 and sorted(found)[::-1] == found for found in scores["probabilities"])

    outcome = compat(*words, *SMALL[:1], "--batch_size=8", f"--pretrained_model={tuned}")
    assert [line.partition(":")[0] for line in outcome.out.splitlines() if line.startswith("Test-")] == [
        "Test-0-feature", "Test-1-feature", "Test-2-feature",
    ]  # fmt: skip
    assert "no class weights" in outcome.err and not (here / f"{tuned}-features/scores.parquet").exists()


@pytest.fixture(scope="module")
def softmax(tmp_path_factory: pytest.TempPathFactory, miniature: Path) -> str:
    """A model trained with softmax."""
    from kinsight.cli import main

    folder = tmp_path_factory.mktemp("softmax")
    flags = ["--train_batch_size=64", f"--data_dir={miniature}", f"--model_save_dir={folder}", "--use_gpu=False"]
    assert main(["compat", "train_elem", *SHORT, *flags]) == 0
    return str(folder / "ResNet18/2")


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
    words = documented(TRAIN_PAIR, output_model_path="output", path_to_pretrain_arcmargin_model=softmax)
    outcome = trained(compat(*words, *SHORT, f"--loss_name={loss}", *flags))
    assert said in outcome.err and f"at first {softmax}" in outcome.err
    settings = json.loads((here / "output/ResNet18/2/bundle.json").read_text())["spec"]
    assert settings["loss"]["kind"] == loss and settings["model"]["init_from"] == softmax


def test_an_embedding_and_a_second_stage_over_classes(compat: Compat, here: Path, softmax: str) -> None:
    flags = [*SHORT, "--train_batch_size=64", "--embedding_size=32", f"--pretrained_model={softmax}"]
    outcome = trained(compat("train_elem.py", *flags))
    assert "its class weights are left out: their shapes differ" in outcome.err
    assert kinsight.load("output/ResNet18/2").embedding_dim == 32
    outcome = compat("eval.py", *SMALL, "--pretrained_model=output/ResNet18/2")
    assert outcome.code == 2 and "--embedding_size: 0, but the model was trained with 32" in outcome.err
    outcome = compat("eval.py", *SMALL, "--pretrained_model=output/ResNet18/2", "--embedding_size=32")
    assert outcome.code == 0 and "End test 18, test_recall" in last(outcome)


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


def last(outcome: Outcome) -> str:
    return outcome.out.splitlines()[-1]


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
