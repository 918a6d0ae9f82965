"""The documented sequence from end to end: the README's command lines as written, on a miniature data set.

Only how long they train and how large network and images are is overridden, by their own flags.
"""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from compat_cases import SHORT, Compat, last, trained

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
RESNET = ["--model=ResNet18"]


def documented(text: str, **variables: str) -> list[str]:
    """The words of a documented command line, its lines joined as its author meant."""
    for name, value in variables.items():
        text = text.replace(f"${{{name}}}", value)
    return shlex.split(re.sub(r"\\\s*\n", " ", re.sub(r"\$\{\w+\}", "", text)))


def test_train_fine_tune_evaluate_infer(compat: Compat, here: Path) -> None:
    words = documented(TRAIN_ELEM, output_model_path="output")
    outcome = trained(compat(*words, *SHORT, *RESNET))
    assert "use_gpu=True, but this machine has no GPU" in outcome.err
    assert "--pretrained_model is empty" in outcome.err
    assert re.search(r"acc1 \d\.\d{4}, time \d+\.\d\d sec$", outcome.out, re.M)
    saved = "output/ResNet18/2"
    assert {"bundle.json", "model.safetensors", "class_weights.safetensors", "checkpoint"} == {
        path.name for path in Path(saved).iterdir()
    }
    assert kinsight.load(saved).embedding_dim == 512

    words = documented(TRAIN_PAIR, output_model_path="output-eml", path_to_pretrain_arcmargin_model=saved)
    outcome = trained(compat(*words, *SHORT, *RESNET))
    assert "left out    the class weights in output/ResNet18/2: eml compares images" in outcome.err
    tuned = "output-eml/ResNet18/2"
    assert read_class_weights(tuned) is None

    words = documented(EVAL, path_to_pretrain_model=tuned)
    outcome = compat(*words, *RESNET)
    assert outcome.code == 0, outcome.err
    assert re.fullmatch(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] End test 18, test_recall \d\.\d{5}", last(outcome))
    metrics = json.loads((here / f"{tuned}-eval/metrics.json").read_text())
    assert last(outcome).endswith(f"{metrics['recall@1']:.5f}")
    assert json.loads((here / tuned / "bundle.json").read_text())["thresholds"] is None

    words = documented(INFER, path_to_pretrain_model=saved)
    outcome = compat(*words, *RESNET)
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

    outcome = compat(*words, *RESNET, "--batch_size=8", f"--pretrained_model={tuned}")
    assert [line.partition(":")[0] for line in outcome.out.splitlines() if line.startswith("Test-")] == [
        "Test-0-feature", "Test-1-feature", "Test-2-feature",
    ]  # fmt: skip
    assert "no class weights" in outcome.err and not (here / f"{tuned}-features/scores.parquet").exists()
