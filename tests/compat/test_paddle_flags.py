"""What the scripts' flags mean: documented defaults, the settings they become, and what is refused in which words."""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compat_cases import Compat
from sop_miniature import write_miniature

from kinsight.compat.ascend.flags import RUN_DCNET
from kinsight.compat.command import overview
from kinsight.compat.flags import Values, parse
from kinsight.compat.paddle.flags import EVAL, INFER, TRAIN_ELEM, TRAIN_PAIR
from kinsight.compat.paddle.specs import train_spec
from kinsight.compat.table import SCRIPTS
from kinsight.data.crops import evaluation_crop
from kinsight.errors import SpecError
from kinsight.specs.train import TrainSpec

FLAGS = {"train_elem.py": TRAIN_ELEM, "train_pair.py": TRAIN_PAIR, "eval.py": EVAL, "infer.py": INFER}
# As the README and the scripts document them.
COMMON = {
    "model": "ResNet50", "embedding_size": 0, "image_shape": "3,224,224", "use_gpu": True, "pretrained_model": None,
}  # fmt: skip
TRAINING = COMMON | {
    "test_batch_size": 50, "class_dim": 11318, "lr_strategy": "piecewise_decay", "display_iter_step": 10,
    "checkpoint": None, "model_save_dir": "output", "with_mem_opt": True,
}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "train_elem.py": TRAINING | {
        "train_batch_size": 256, "lr": 0.01, "lr_steps": "15000,25000", "total_iter_num": 30000,
        "test_iter_step": 1000, "save_iter_step": 1000, "loss_name": "softmax",
        "arc_scale": 80.0, "arc_margin": 0.15, "arc_easy_margin": False, "enable_ce": False,
    },
    "train_pair.py": TRAINING | {
        "train_batch_size": 120, "lr": 0.0001, "lr_steps": "100000", "total_iter_num": 100000,
        "test_iter_step": 5000, "save_iter_step": 5000, "loss_name": "triplet",
        "samples_each_class": 2, "margin": 0.1, "npairs_reg_lambda": 0.01,
    },
    "eval.py": COMMON | {"batch_size": 10, "with_mem_opt": False},
    "infer.py": COMMON | {"batch_size": 1, "with_mem_opt": False},
}  # fmt: skip


def values(script: str, *words: str) -> Values:
    return parse(script, FLAGS[script], words)


def spec(script: str, *words: str) -> TrainSpec:
    return train_spec(values(script, *words))


@pytest.mark.parametrize("script", FLAGS)
def test_every_documented_flag_has_its_default(script: str) -> None:
    assert dict(values(script).value) == DEFAULTS[script] | {"data_dir": "data/Stanford_Online_Products"}


@pytest.mark.parametrize("script", [name for name, script in SCRIPTS.items() if script.flags])
def test_help_is_quick(script: str) -> None:
    code = (
        "import sys; from kinsight.cli import main; main(['compat', sys.argv[1], '--help']);"
        "print([m for m in ('torch', 'timm', 'pyarrow', 'pydantic', 'numpy') if m in sys.modules])"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, script], capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 5  # under a second on a machine with nothing else to do
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f"--{flag.name} " in done.stdout for flag in FLAGS.get(script, RUN_DCNET))
    assert len(done.stdout.splitlines()) < 40


def test_without_a_script_all_are_listed(compat: Compat) -> None:
    outcome = compat()
    assert outcome.code == 0 and outcome.out.strip() == overview()
    assert all(re.search(rf"^  {re.escape(script)} ", outcome.out, re.M) for script in SCRIPTS)


def test_words_are_read_as_argparse_reads_them() -> None:
    found = values("train_elem.py", " ", "--lr", "0.5", "--lr=0.25", "--arc_easy_margin=YES", "--use_gpu", "0")
    assert (found["lr"], found["arc_easy_margin"], found["use_gpu"]) == (0.25, True, False)
    assert found.given == {"lr", "arc_easy_margin", "use_gpu"}


def test_softmax_as_the_script_trains_it(here: Path) -> None:
    found = spec("train_elem.py")
    assert found.output == "output/ResNet50/run-softmax"
    assert found.loss.kind == "softmax"
    assert (found.sampler.kind, found.batch.size, found.steps) == ("shuffle", 256, 30000)
    assert found.sampler.model_dump()["reshuffle"] is False
    assert found.optimizer.model_dump() | {"kind": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4} == (
        found.optimizer.model_dump()
    )
    assert found.schedule.model_dump() | {"kind": "step", "at": [15000, 25000], "unit": "steps", "gamma": 0.1} == (
        found.schedule.model_dump()
    )
    assert found.schedule.warmup_steps == 0
    assert (found.model.backbone, found.model.pretrained, found.model.init_from) == ("ResNet50", None, None)
    assert (found.model.neck.kind, found.model.embedding_dim, found.model.pooling.kind) == ("none", 2048, "avg")
    assert (found.validate_.every_steps, found.validate_.batch_size, found.log_every_steps) == (1000, 50, 10)
    assert found.snapshots is not None
    assert (found.snapshots.every_steps, found.snapshots.path) == (1000, "output/ResNet50")
    assert found.data.augment.model_dump() == {"kind": "photo", "min_area": 0.08, "flip": True}
    assert found.data.num_classes is None
    assert (found.precision, found.seed, found.head.init_from) == ("fp32", 0, None)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (300, 1200), (33, 20000), (9999, 9998)])
def test_testing_cuts_the_centre_of_the_shorter_side(here: Path, width: int, height: int) -> None:
    side = min(width, height)
    crop = evaluation_crop(width, height, spec("train_elem.py").data.crop)
    assert crop == ((width - side) // 2, (height - side) // 2, side, side, False)


@pytest.mark.parametrize(
    ("words", "loss", "sampler", "size"),
    [
        (
            ["--loss_name=triplet", "--train_batch_size=160", "--margin=0.3"],
            {"kind": "triplet", "margin": 0.3, "distance": "squared-euclidean", "mean_over": "all"},
            {"kind": "triplets"},
            159,
        ),
        (
            ["--loss_name=quadruplet", "--samples_each_class=4"],
            {"kind": "quadruplet", "margin": 0.1},
            {"kind": "per-class", "samples_per_class": 4},
            120,
        ),
        (
            ["--loss_name=eml", "--train_batch_size=160"],
            {"kind": "eml", "beta": 1e5},
            {"kind": "per-class", "samples_per_class": 2},
            160,
        ),
        (
            ["--loss_name=npairs", "--npairs_reg_lambda=0.5"],
            {"kind": "npairs", "reg_weight": 0.5},
            {"kind": "per-class", "samples_per_class": 2},
            120,
        ),
    ],
)
def test_losses_over_pairs(here: Path, words: list[str], loss: dict[str, Any], sampler: dict, size: int) -> None:
    found = spec("train_pair.py", *words)
    assert found.loss.model_dump() | loss == found.loss.model_dump()
    assert found.sampler.model_dump() | sampler == found.sampler.model_dump()
    assert found.batch.size == size
    if loss["kind"] == "triplet":
        assert found.loss.model_dump()["miner"] == {"kind": "consecutive"}
    assert found.schedule.model_dump()["at"] == [100000] and found.optimizer.lr == 0.0001


def test_arcmargin_and_an_embedding(here: Path) -> None:
    words = ["--loss_name=arcmargin", "--arc_scale=64", "--arc_margin=0.2", "--arc_easy_margin=True"]
    found = spec("train_elem.py", *words, "--embedding_size=512", "--class_dim=11318")
    assert found.loss.model_dump() | {"kind": "arcmargin", "scale": 64.0, "margin_rad": 0.2, "easy_margin": True} == (
        found.loss.model_dump()
    )
    assert (found.model.neck.kind, found.model.embedding_dim, found.data.num_classes) == ("linear", 512, 11318)


@pytest.mark.parametrize("step", ["0", "30001"])
def test_tests_that_never_come(here: Path, step: str) -> None:
    assert spec("train_elem.py", f"--test_iter_step={step}").data.validation is None


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("train_elem.py", ["--arc_scale=80", "--arc_margin=0.15"], "--arc_scale, --arc_margin: no effect with softmax"),
        ("train_pair.py", ["--loss_name=eml", "--margin=0.1"], "--margin: no effect with eml"),
        ("train_pair.py", ["--samples_each_class=2"], "--samples_each_class: no effect with triplet"),
        (
            "train_pair.py",
            ["--class_dim=3", "--npairs_reg_lambda=1"],
            "--class_dim, --npairs_reg_lambda: no effect with",
        ),
        (
            "train_elem.py",
            ["--checkpoint=x", "--pretrained_model=y"],
            "--pretrained_model: no effect with --checkpoint",
        ),
    ],
)
def test_flags_in_vain(
    here: Path, capsys: pytest.CaptureFixture[str], script: str, words: list[str], said: str
) -> None:
    spec(script, "--use_gpu=0", *words)
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warned) == 1 and said in warned[0], warned


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train_elm.py"], 2, "did you mean train_elem.py?"),
        (["train_elem.py", "--batch_size=4"], 2, "train_elem.py has no --batch_size; did you mean --test_batch_size?"),
        (["train_elem.py", "--total-iter-num", "3", "--arc_margn=1"], 2, "did you mean --total_iter_num?"),
        (["train_elem.py", "--lr=fast"], 2, "--lr: 'fast': expected a number; the default is 0.01"),
        (["train_elem.py", "--lr=-1"], 2, "--lr: -1.0: must be above 0"),
        (["train_elem.py", "--use_gpu=perhaps"], 2, "--use_gpu: 'perhaps': expected True or False"),
        (["train_elem.py", "--use_gpu"], 2, "--use_gpu: needs a value"),
        (["train_elem.py", "lr=3"], 2, "'lr=3' is not a flag"),
        (["train_elem.py", "--total_iter_num=0"], 2, "--total_iter_num: 0: must be at least 1"),
        (["train_elem.py", "--loss_name=triplet"], 2, "triplet is trained by train_pair.py"),
        (["train_pair.py", "--loss_name=emll"], 2, "'emll': train_pair.py knows triplet, quadruplet, eml, npairs"),
        (["train_elem.py", "--lr_strategy=cosine_decay"], 2, "the script knows piecewise_decay alone"),
        (["train_elem.py", "--lr_steps=25000,15000"], 2, "expected rising iterations"),
        (["train_elem.py", "--image_shape=3,224,200"], 2, "expected three colours and a square"),
        (["train_elem.py", "--model=ResNet51"], 2, "--model: 'ResNet51': no such backbone"),
        (["train_elem.py", "--model_save_dir="], 2, "--model_save_dir: is empty"),
        (["train_elem.py", "--arc_margin=2", "--loss_name=arcmargin"], 2, "--arc_margin"),
        (["train_elem.py", "--train_batch_size=999"], 3, "--train_batch_size=999 is more than the 258 images"),
        (["train_elem.py", "--class_dim=5"], 3, "--class_dim"),
        (["train_pair.py", "--loss_name=eml", "--train_batch_size=121"], 2, "give 120 or 122"),
        (["train_pair.py", "--loss_name=npairs", "--samples_each_class=3"], 2, "npairs takes 2"),
        (["train_pair.py", "--loss_name=eml", "--samples_each_class=1"], 2, "must be at least 2"),
        (["train_pair.py", "--train_batch_size=2"], 2, "a triplet is 3 images"),
        (["eval.py", "--data_dir=nowhere"], 3, "--data_dir: nowhere: no such folder\n  → give the folder that holds"),
        (["eval.py", "--data_dir=data"], 3, "--data_dir: data has no Ebay_test.txt"),
        (["eval.py", "--pretrained_model=nowhere"], 1, "--pretrained_model=nowhere: nothing is there"),
        (["infer.py", "--pretrained_model=data"], 3, "holds no model"),
        (["train_elem.py", "--checkpoint=nowhere"], 3, "--checkpoint=nowhere: holds no state of a training"),
    ],
)
def test_wrong_words(compat: Compat, words: list[str], code: int, said: str) -> None:
    small = ["--image_shape=3,16,16"] if words[0].startswith("train") and len(words) > 1 else []
    outcome = compat(words[0], *small, *words[1:])
    assert outcome.code == code and said in outcome.err, outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    "files",
    [
        ["ResNet50_pretrained/conv1_weights", "ResNet50_pretrained/bn_conv1_scale"],
        ["ResNet50_pretrained/fc_0.w_0", "ResNet50_pretrained/bn2a_branch1_mean"],
        ["ResNet50_pretrained/x", "ResNet50_pretrained.pdparams"],
        ["ResNet50_pretrained/model.pdiparams"],
    ],
)
@pytest.mark.parametrize("flag", ["pretrained_model", "checkpoint"])
def test_paddle_weights_are_refused(compat: Compat, here: Path, files: list[str], flag: str) -> None:
    for name in files:
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_bytes(b"\0" * 16)
    outcome = compat("train_elem.py", f"--{flag}=ResNet50_pretrained")
    assert outcome.code == 3, outcome.err
    assert f"--{flag}=ResNet50_pretrained: these are weights in Paddle's own format" in outcome.err
    assert "--pretrained_model=default" in outcome.err
    assert not (here / "output").exists()


def test_a_model_of_another_network_is_refused(compat: Compat, here: Path, tmp_path: Path) -> None:
    flags = ["--model=conv4", "--image_shape=3,16,16", "--total_iter_num=1", "--train_batch_size=8", "--use_gpu=0"]
    assert compat("train_elem.py", *flags).code == 0
    outcome = compat("eval.py", "--pretrained_model=output/conv4/1")
    assert outcome.code == 2 and "is a conv4, and --model is ResNet50\n  → give --model=conv4" in outcome.err
    outcome = compat("infer.py", "--model=conv4", "--image_shape=3,32,32", "--pretrained_model=output/conv4/1")
    assert outcome.code == 0 and "--image_shape=3,32,32: no effect" in outcome.err


def test_the_data_set_is_found_where_it_was_fetched_to(compat: Compat, here: Path, miniature: Path) -> None:
    """By `kinsight data get sop`, in this working directory; the scripts' own folder comes first."""
    (here / "data").unlink()
    fetched = "data/sop/files/Stanford_Online_Products/Stanford_Online_Products"
    outcome = compat("infer.py")
    assert outcome.code == 3 and f"`kinsight data get sop` fetches it, to {fetched}" in outcome.err
    assert f"--data_dir: data/Stanford_Online_Products: no such folder, nor is there {fetched}" in outcome.err
    write_miniature(here / fetched, train_classes=2, test_classes=2, each=3)
    words = ["eval.py", "--model=conv4", "--image_shape=3,16,16", "--use_gpu=False"]
    said = f"data/Stanford_Online_Products is not there: reading {fetched}, where `kinsight data get sop` put it"
    outcome = compat(*words)
    assert outcome.code == 0 and outcome.err.count(said) == 1 and "End test 6, test_recall" in outcome.out
    outcome = compat(*words, "--data_dir=nowhere")
    assert outcome.code == 3 and f"give --data_dir={fetched}, which is there" in outcome.err
    (here / "data/Stanford_Online_Products").symlink_to(miniature)
    outcome = compat(*words)
    assert outcome.code == 0 and said not in outcome.err and "End test 18, test_recall" in outcome.out


def test_random_weights_are_measured_and_said(compat: Compat) -> None:
    outcome = compat("eval.py", "--model=conv4", "--image_shape=3,16,16", "--use_gpu=False")
    assert outcome.code == 0 and "the network has random weights" in outcome.err
    assert re.search(r"End test 18, test_recall [01]\.\d{5}$", outcome.out.strip())


def test_broken_images(compat: Compat, here: Path, miniature: Path) -> None:
    """A few are left out and named; with many of them the training stops."""
    data = write_miniature(here / "own", train_classes=50, test_classes=3, each=4)
    (data / "chair_final/100000000003_0.JPG").write_bytes(b"no picture")
    (data / "bicycle_final/100000000052_1.JPG").unlink()
    words = ["train_elem.py", "--model=conv4", "--image_shape=3,16,16", "--total_iter_num=4", "--train_batch_size=50"]
    words += [f"--data_dir={data}", "--use_gpu=0"]
    outcome = compat(*words, "--test_iter_step=0")
    assert outcome.code == 0 and "broken      1 images were skipped" in outcome.err
    outcome = compat("eval.py", *words[1:3], f"--data_dir={data}", "--pretrained_model=output/conv4/4", "--use_gpu=0")
    assert outcome.code == 3 and "100000000052_1.JPG" in outcome.err, outcome.err


def test_checked_by_the_spec_in_its_own_words(here: Path) -> None:
    with pytest.raises(SpecError, match=r"optimizer\.lr|must be above"):
        spec("train_elem.py", "--lr=0")


def test_the_recall_is_the_scripts_own(compat: Compat, here: Path, tmp_path: Path) -> None:
    """Computed as its source does, from the features that infer.py writes; one image is alone in its class."""
    data = write_miniature(here / "own", train_classes=3, test_classes=12, each=4)
    lines = (data / "Ebay_test.txt").read_text().splitlines()
    (data / "Ebay_test.txt").write_text("\n".join([lines[0], lines[1], *lines[5:]]) + "\n")
    words = ["--model=conv4", "--image_shape=3,16,16", f"--data_dir={data}", "--use_gpu=0"]
    assert compat("infer.py", *words).code == 0
    feature_ND = np.load("output/conv4-features/vectors.npy").astype(np.float64)
    label_N = np.array([int(line.split()[1]) for line in (data / "Ebay_test.txt").read_text().splitlines()[1:]])
    feature_ND /= np.sqrt((feature_ND**2).sum(1, keepdims=True))
    distance_NN = ((feature_ND[:, None] - feature_ND[None]) ** 2).sum(2) + 1e8 * np.eye(len(label_N))
    recall = (label_N[distance_NN.argmin(1)] == label_N).mean()
    assert 0 < recall < 1
    outcome = compat("eval.py", *words)
    assert outcome.out.splitlines()[-1].endswith(f"End test 45, test_recall {recall:.5f}"), (recall, outcome.out)
