"""`kinsight pai`: what a command line says, in every form, and what is wrong with it, without running anything."""

import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml
from pai_pages import COMMANDS, PARAM_CONFIG, SEVERAL, SINGLE

from kinsight.cli import main
from kinsight.compat.flags import Values
from kinsight.compat.pai import machine, parameters
from kinsight.compat.pai.places import environment
from kinsight.compat.pai.training import fitted
from kinsight.compat.pai.words import PaiCommand, command, commands_in
from kinsight.errors import SpecError
from kinsight.specs.train import TrainSpec

CLUSTER = '{"worker": {"count": 3, "gpu": 0}}'
ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "../shared/references/pai-easyvision-classification.txt"
NEEDED = (
    "--model_type MultiLabelClassification --num_classes 4 --train_data a/*.tfrecord --test_data b.tfrecord "
    "--train_batch_size 8 --test_batch_size 8 --model_dir out --num_epochs 20"
)


TRAIN = ["-name", "easy_vision_ext", "-Dcmd", "train", "-Dparam_config", NEEDED]
CONVERT = ["-name", "easy_vision_ext", "-Dcmd", "convert", "-Dlabel_file", "l.csv", "-Doutput_tfrecord", "o"]


def dry(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    """The settings that a command stands for."""
    capsys.readouterr()
    code = main(["pai", *words, "--dry-run"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return yaml.safe_load(out)


def config(capsys: pytest.CaptureFixture[str], more: str = "", *words: str) -> dict:
    given = f"{NEEDED} {more}"
    return dry(capsys, "-name", "easy_vision_ext", "-Dcmd", "train", "-DgpuRequired=0", *words, "-Dparam_config", given)


def wrong(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(["pai", *words]) == 2
    return capsys.readouterr().err


def wrong_config(capsys: pytest.CaptureFixture[str], more: str) -> str:
    return wrong(capsys, "-name", "easy_vision_ext", "-Dcmd", "train", "-Dparam_config", f"{NEEDED} {more}")


def test_the_commands_are_the_page_s() -> None:
    if not REFERENCE.exists():
        pytest.skip("the page is not here")
    page = REFERENCE.read_text()
    for text in COMMANDS.values():
        assert text.rstrip("\n") in page


@pytest.mark.parametrize("name", COMMANDS)
def test_page_as_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    spec = dry(capsys, "-e", COMMANDS[name])
    several, task = name.startswith("several"), "multilabel" if "multilabel" in name else "classification"
    assert (spec["task"], spec["output"]) == (
        task,
        "oss://pai-vision-data-sh/test/cifar_inception_v4" + "_dis" * several,
    )
    assert spec["data"]["train"]["path"] == "oss://pai-vision-data-sh/data/test/cifar10/*.tfrecord"
    assert (spec["data"]["num_classes"], spec["data"]["image_size"], spec["epochs"]) == (10, 299, 1)
    assert (spec["model"]["backbone"], spec["model"]["pretrained"]) == ("inception_v4", "default")
    assert spec["batch"]["size"] == (96 if several else 32)
    assert (spec["validate"]["batch_size"], spec["validate"]["images"]) == (32, 20)
    assert spec["loss"]["kind"] == ("bce" if task == "multilabel" else "softmax")
    assert (spec["optimizer"]["kind"], spec["optimizer"]["lr"], spec["optimizer"]["momentum"]) == ("sgd", 0.01, 0.9)
    schedule = spec["schedule"]
    assert (schedule["kind"], schedule["gamma"], schedule["every"], schedule["unit"], schedule["staircase"]) == (
        "exponential", 0.95, 20, "epochs", True,
    )  # fmt: skip
    assert schedule["warmup_steps"] == 0


@pytest.mark.parametrize("text", [SINGLE, SEVERAL])
def test_page_through_a_shell(text: str) -> None:
    """With the backslashes that a shell wants at the ends of lines outside quotes, it hands on the same words."""
    lines, quoted = [], False
    for line in text.rstrip("\n").split("\n"):
        quoted ^= line.count("'") % 2 == 1
        lines.append(line if quoted else f"{line} \\")
    script = "\n".join(lines).removesuffix("\\").replace("pai -name", "set -- -name", 1)
    ending = f'; exec "{sys.executable}" -c \'import json, sys; print(json.dumps(sys.argv[1:]))\' "$@"'
    words = json.loads(subprocess.run(["sh", "-c", script + ending], capture_output=True, check=True, text=True).stdout)
    assert command(words) == commands_in(text)[0]


def test_forms_of_a_parameter() -> None:
    for words in (
        ["-Dcmd", "train", "-Dparam_config", "--a b"],
        ["-Dcmd=train", "-Dparam_config=--a b"],
        ["-Dcmd", "=", "train", "-Dparam_config", "=", "--a b"],
        ["-Dcmd", "=train", "-Dparam_config=", "--a b"],
        ["-Dcmd=", "train", "-Dparam_config", "--a", "b"],
        ["-D", "cmd=train", "-Dparam_config=--a", "b"],
    ):
        found = command(["-name", "easy_vision_ext", *words, "-project", "algo_public"])
        assert found == PaiCommand("easy_vision_ext", {"cmd": "train", "param_config": "--a b"}), words
        assert command(["PAI", "-name=easy_vision_ext", " ", *words]) == found
    third = "pai -name easy_vision_ext -Dparam_config = '\n--backbone inception_v4\n--num_classes 200\n' -Dcmd=train;"
    assert commands_in(third)[0].value["param_config"] == "--backbone inception_v4\n--num_classes 200"


def test_several_commands_in_a_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(commands_in(f"{SINGLE};\n{SEVERAL}\n;")) == 2
    assert len(commands_in(SINGLE + SEVERAL)) == 2
    (tmp_path / "commands.txt").write_text(SINGLE.replace("\n", " \\\r\n", 3))
    assert main(["pai", "-f", str(tmp_path / "commands.txt"), "--dry-run"]) == 0
    assert "inception_v4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-Dcmd", "train"], "-name: must be given"),
        (["-name", "easy_vision", "-Dcmd", "train"], "'easy_vision': expected easy_vision_ext or ev_predict_ext"),
        (["-name", "easy_vision_ext"], "-Dcmd: must be given"),
        (["-name", "easy_vision_ext", "-Dcmd", "evaluate"], "-Dcmd: 'evaluate': expected train or convert"),
        (["-name", "easy_vision_ext", "-Dcmd", "train", "-Dgpurequired", "100"], "did you mean -DgpuRequired?"),
        (["-name", "easy_vision_ext", "-Dcmd", "train", "-Dparam_confg", "x"], "did you mean -Dparam_config?"),
        (["-name", "easy_vision_ext", "-Dcmd", "train", "stray"], "'stray' belongs to no parameter"),
        (["-name", "easy_vision_ext", "-Dcmd"], "-Dcmd: needs a value"),
        (["-name", "easy_vision_ext", "-Dcmd=train", "-Dcmd=convert"], "-Dcmd: is given twice, with two values"),
        (["-name", "ev_predict_ext", "-DinputTable", "t"], "MaxCompute's tables are out of reach here"),
        (["-e", "pai -name x -Dcmd 'train"], "a quote that was opened is not closed"),
        (["-name", "easy_vision_ext", "-Dcmd", "train"], "--model_type: must be given"),
        (["-e", " ; "], "holds no command"),
        ([*CONVERT, "-Dparam_config", "--a b"], "-Dparam_config: has no effect with -Dcmd convert"),
        ([*CONVERT, "-Dconfig", "a.yaml"], "-Dconfig: has no effect with -Dcmd convert"),
        ([*TRAIN, "-Dlabel_file", "a.csv"], "-Dlabel_file: has no effect with -Dcmd train"),
        ([*TRAIN, "-Doutput_tfrecord", "a"], "-Doutput_tfrecord: has no effect with -Dcmd train"),
        ([*TRAIN, "-Dconvert_param_config", "--a b"], "leave it out: it belongs to -Dcmd convert"),
    ],
)
def test_wrong_words(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in wrong(capsys, *words)


def test_a_script_without_a_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    assert "empty.txt: holds no command" in wrong(capsys, "-f", str(tmp_path / "empty.txt"))


def test_what_stands_before_every_command_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["pai", *CONVERT, "-DgpuRequired=100", "--dry-run"]) == 0
    assert "-DgpuRequired: no effect with -Dcmd convert" in capsys.readouterr().err


def test_every_documented_parameter_has_its_default() -> None:
    assert {flag.name: flag.default for flag in parameters.PARAM_CONFIG} == PARAM_CONFIG
    assert len(PARAM_CONFIG) == 28


def test_each_parameter_has_its_effect(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plain = config(capsys)
    assert plain["data"]["image_size"] == 224
    assert (plain["data"]["augment"]["kind"], plain["data"]["crop"]) == ("photo", 0.875)
    assert (plain["data"]["workers"], plain["checkpoint"]["every_epochs"]) == (4, 1)
    assert (plain["validate"]["images"], plain["validate"]["metric"]) == (None, "map")
    assert plain["model"] == {**plain["model"], "backbone": "inception_v4", "neck": {"kind": "none"}}

    (tmp_path / "start.safetensors").write_bytes(b"x")
    changed = config(
        capsys,
        "--backbone lenet --image_size 32 --use_crop false --optimizer adam --initial_learning_rate 0.5 "
        f"--train_num_readers 2 --save_checkpoint_epochs 3 --num_test_example 7 --label_map_path map.pbtxt "
        f"--pretrained_model {tmp_path}/start.safetensors --model_type Classification",
    )
    assert (changed["task"], changed["model"]["backbone"]) == ("classification", "lenet")
    assert changed["model"]["pretrained"] == f"{tmp_path}/start.safetensors"
    assert (changed["data"]["image_size"], changed["data"]["crop"]) == (32, 1.0)
    assert (changed["data"]["augment"]["kind"], changed["data"]["augment"]["min_area"]) == ("light", 1.0)
    assert (changed["optimizer"]["kind"], changed["optimizer"]["lr"]) == ("adam", 0.5)
    assert (changed["data"]["workers"], changed["checkpoint"]["every_epochs"]) == (2, 3)
    assert changed["validate"]["images"] == 7
    assert {changed["data"][name]["label_map"] for name in ("train", "validation")} == {"map.pbtxt"}
    assert {plain["data"][name]["label_offset"] for name in ("train", "validation")} == {0}
    from_one = config(capsys, "--label_offset 1")
    assert {from_one["data"][name]["label_offset"] for name in ("train", "validation")} == {1}
    assert config(capsys, "--use_pretrained_model false")["model"]["pretrained"] is None


def test_learning_rates(capsys: pytest.CaptureFixture[str]) -> None:
    def schedule(more: str) -> dict:
        found = config(capsys, more)["schedule"]
        assert found["warmup_steps"] == 0
        return found

    smooth = schedule("--decay_epochs 10 --decay_factor 0.5 --staircase false")
    assert (smooth["gamma"], smooth["every"], smooth["staircase"]) == (0.5, 10, False)
    polynomial = schedule("--lr_type polynomial_decay")
    assert (polynomial["kind"], polynomial["power"], polynomial["min_lr_ratio"]) == ("polynomial", 0.9, 0.001)
    assert schedule("--lr_type polynomial_decay --power 2")["power"] == 2
    steps = schedule("--lr_type manual_step --decay_epochs 8 16 --learning_rates 0.001 0.0001")
    assert (steps["at"], steps["unit"], steps["learning_rates"]) == ([8, 16], "epochs", [0.001, 0.0001])
    cosine = schedule("--lr_type cosine_decay")
    assert (cosine["kind"], cosine["min_lr"]) == ("cosine", 0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--lr_type manual_step --decay_epochs 8 16 --learning_rates 0.1", "--learning_rates: 1 for 2 --decay_epochs"),
        ("--lr_type manual_step --decay_epochs 8", "--learning_rates: must be given with --lr_type manual_step"),
        ("--lr_type manual_step --learning_rates 0.1", "--decay_epochs: must be given with --lr_type manual_step"),
        ("--lr_type manual_step --decay_epochs 16 8 --learning_rates 0.1 0.2", "--decay_epochs: 16 8: must rise"),
        ("--decay_epochs 8 16", "--decay_epochs: 8 16: exponential_decay takes one number"),
        ("--lr_type cosine", "did you mean cosine_decay?"),
        ("--optimizer adamw", "'adamw': expected momentum or adam; did you mean adam?"),
        ("--model_type MultiLabelClasification", "did you mean MultiLabelClassification?"),
        ("--backbon lenet", "-Dparam_config has no --backbon; did you mean --backbone?"),
        ("--image_size 224px", "--image_size: '224px': expected a whole number; the default is 224"),
        ("--num_test_example 0", "--num_test_example: 0: must be 1 or more, or -1 for all"),
        ("--num_epochs 0", "--num_epochs: 0: must be at least 1"),
        ("--initial_learning_rate -1", "--initial_learning_rate"),
        ("--use_crop maybe", "--use_crop: 'maybe': expected True or False"),
        ("--image_size 4", "--image_size"),
    ],
)  # fmt: skip
def test_wrong_parameters(more: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in wrong_config(capsys, more)


def test_learning_rates_that_are_never_reached(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-name", "easy_vision_ext", "-Dcmd=train", "-DgpuRequired=0", "--dry-run", "-Dparam_config"]
    for epochs, at in (("8 20 40", [8]), ("20 40 60", None)):
        capsys.readouterr()
        more = f"--lr_type manual_step --decay_epochs {epochs} --learning_rates 0.1 0.01 0.001"
        assert main(["pai", *words, f"{NEEDED} {more}"]) == 0
        out, err = capsys.readouterr()
        schedule = yaml.safe_load(out)["schedule"]
        assert schedule["kind"] == ("step" if at else "constant")
        assert schedule.get("at") == at and schedule.get("learning_rates") == ([0.1] if at else None)
        assert "20 40" in err and "never reached within --num_epochs 20" in " ".join(err.split())


@pytest.mark.parametrize(("images", "ranks", "pieces"), [(2, 2, 1), (1, 1, 1), (7, 3, 2), (50, 3, 2)])
def test_no_rank_without_an_image(images: int, ranks: int, pieces: int, capsys: pytest.CaptureFixture[str]) -> None:
    spec = TrainSpec.model_validate(
        {
            "output": "out",
            "task": "multilabel",
            "data": {"train": {"path": "x.txt"}, "num_classes": 3},
            "batch": {"size": 48, "accumulate": 2},
            "nproc": 3,
        }
    )
    values = Values("x", {"num_train_images": 0, "train_data": "x.txt"}, frozenset())
    capsys.readouterr()
    found = fitted(spec, values, images)
    assert (found.nproc, found.batch.accumulate, found.batch.size) == (ranks, pieces, min(48, images))
    said = f"3 ranks were to compute, {ranks} do" in " ".join(capsys.readouterr().err.split())
    assert said == (ranks < 3)


def test_parameters_in_vain_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    words = ["-name", "easy_vision_ext", "-Dcmd=train", "-DgpuRequired=0", "--dry-run"]
    assert main(["pai", *words, "-Dparam_config", f"{NEEDED} --power 2 --learning_rates 1 2"]) == 0
    err = capsys.readouterr().err
    assert "--learning_rates, --power: no effect with --lr_type exponential_decay" in " ".join(err.split())
    assert err.count("warning") == 1


def test_tensorflow_checkpoints_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "model.ckpt-100.index").write_bytes(b"x")
    for name in ("inception_v4.ckpt", "model.ckpt-100", "model.ckpt-100.index", "saved_model.pb"):
        capsys.readouterr()
        words = ["-name", "easy_vision_ext", "-Dcmd=train", "-DgpuRequired=0", "-Dparam_config"]
        assert main(["pai", *words, f"{NEEDED} --pretrained_model {tmp_path}/{name}"]) == 3
        assert "TensorFlow's checkpoints are not read here" in capsys.readouterr().err


@pytest.mark.parametrize("cluster", ["ps", "no-ps"])
def test_a_cluster_becomes_ranks(
    cluster: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = '"ps": {"count": 1, "cpu": 600}, ' if cluster == "ps" else ""
    text = "{" + servers + '"worker": {"count": 3, "cpu": 800, "gpu": 100}}'
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    capsys.readouterr()
    words = ["-name", "easy_vision_ext", "-Dcmd=train", f"-Dcluster={text}", "-Dparam_config", NEEDED, "--dry-run"]
    assert main(["pai", *words]) == 0
    out, err = capsys.readouterr()
    spec, said = yaml.safe_load(out), " ".join(err.split())
    assert (spec["nproc"], spec["device"]) == (2, "cpu")
    assert spec["batch"] == {"size": 24, "accumulate": 2}
    assert said.count("asks for a GPU") == 1
    assert f"{'1 ps and ' if servers else ''}3 workers: 2 ranks on this machine average their gradients" in said
    assert "3 ranks were asked for, 2 run: this machine has 2 cores" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ("[1]", "must be an object of ps and worker"),
        ('{"workers": {"count": 1}}', "has no workers; did you mean worker?"),
        ('{"worker": {"counts": 1}}', "has no worker.counts; did you mean worker.count?"),
        ('{"worker": {"count": 0}}', "worker.count=0: must be a whole number, 1 or more"),
        ('{"worker": {"count": 1, "gpu": "many"}}', "expected hundredths of a GPU"),
    ],
)
def test_wrong_clusters(text: str, said: str) -> None:
    with pytest.raises(SpecError, match="Dcluster") as caught:
        machine.asked_of(PaiCommand("easy_vision_ext", {"cluster": text}))
    assert said in str(caught.value)


def test_gpus_are_hundredths() -> None:
    for text, gpus in (("100", 1), ("200", 2), ("50", 1), ("0", 0)):
        assert machine.asked_of(PaiCommand("x", {"gpuRequired": text})).gpus == gpus
    assert machine.asked_of(PaiCommand("x", {})).gpus == 1
    escaped = '{\\"worker\\": {\\"count\\": 2, \\"gpu\\": 200}}'
    assert machine.asked_of(PaiCommand("x", {"cluster": escaped})) == machine.Asked(0, 2, 2, True, "-Dcluster")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"buckets": "{bucket_name}.{oss_host}/{path}", "ossHost": "{oss_host}"}, {}),
        ({"ossHost": "oss-cn-shanghai.aliyuncs.com"}, {"OSS_ENDPOINT": "oss-cn-shanghai.aliyuncs.com"}),
        ({"host": "oss-cn-shanghai.aliyuncs.com"}, {"OSS_ENDPOINT": "oss-cn-shanghai.aliyuncs.com"}),
        ({"buckets": "mine/folder"}, {}),
        *(
            (
                {"buckets": f"{scheme}mine.oss-cn-beijing.aliyuncs.com/{{path}}"},
                {
                    "OSS_ENDPOINT": "oss-cn-beijing.aliyuncs.com",
                    "OSS_BUCKETS": "mine",
                    "OSS_ENDPOINTS": "oss-cn-beijing.aliyuncs.com",
                },
            )
            for scheme in ("", "oss://")
        ),
        (
            {"buckets": "oss://a.h1.com/x/,oss://b.h2.com/", "ossHost": "h3.com"},
            {"OSS_ENDPOINT": "h3.com", "OSS_BUCKETS": "a,b", "OSS_ENDPOINTS": "h1.com,h2.com"},
        ),
    ],
)
def test_buckets_and_hosts(given: dict[str, str], wanted: dict[str, str]) -> None:
    assert environment(PaiCommand("easy_vision_ext", given)) == wanted


def test_a_settings_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("output: out\ntask: multilabel\ndata: {train: {path: x.txt}, num_classes: 3}\nepochs: 2\n")
    spec = dry(capsys, "-name=easy_vision_ext", "-Dcmd=train", f"-Dconfig={file}")
    assert (spec["task"], spec["epochs"], spec["loss"]["kind"]) == ("multilabel", 2, "bce")
    file.with_name("own.config").write_text('model_config: {\n  model_class: "x"\n  a {\n}\n')
    own = wrong(capsys, "-name=easy_vision_ext", "-Dcmd=train", f"-Dconfig={tmp_path}/own.config")
    assert "EasyVision's own format is not published" in own
    both = ["-name=easy_vision_ext", "-Dcmd=train", f"-Dconfig={file}", "-Dparam_config", NEEDED]
    assert "-Dparam_config: has no effect beside -Dconfig" in wrong(capsys, *both)


@pytest.mark.parametrize(
    ("more", "asked", "device", "nproc", "said"),
    [
        ("", ["-DgpuRequired=0"], "cpu", 1, None),
        ("", [f"-Dcluster={CLUSTER}"], "cpu", 2, None),
        (
            "nproc: 1\n",
            [f"-Dcluster={CLUSTER}"],
            "cpu",
            1,
            "-Dcluster: the settings of -Dconfig say nproc 1, which counts",
        ),
        ("nproc: 1\ndevice: cpu\n", ["-DgpuRequired=100"], "cpu", 1, "say device cpu and nproc 1, which counts"),
        ("device: cpu\n", [], "cpu", None, None),
    ],
)
def test_a_machine_for_a_settings_file(
    more: str, asked: list[str], device: str, nproc: int | None, said: str | None,
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What -Dcluster and -DgpuRequired ask for counts where the file leaves it open; else the file does."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    file = tmp_path / "train.yaml"
    file.write_text("output: out\ntask: multilabel\ndata: {train: {path: x.txt}, num_classes: 3}\n" + more)
    capsys.readouterr()
    assert main(["pai", "-name=easy_vision_ext", "-Dcmd=train", f"-Dconfig={file}", *asked, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    spec, err = yaml.safe_load(out), " ".join(err.split())
    assert (spec["device"], spec["nproc"]) == (device, nproc)
    assert said in err if said else "which counts" not in err


def test_help_is_quick() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["pai"] == "kinsight.__main__:pai"
    started = time.monotonic()
    code = "import sys; from kinsight.__main__ import pai; sys.argv = ['pai', '--help']; pai()"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for name in PARAM_CONFIG:
        assert f"--{name}" in done.stdout
    for module in ("torch", "pydantic", "timm"):
        assert f"| {module}\n" not in done.stderr
    assert time.monotonic() - started < 20  # under a second on a machine of its own


def test_a_conversion(capsys: pytest.CaptureFixture[str]) -> None:
    """The documented one: its processes are those of all workers."""
    words = ["-name", "easy_vision_ext", "-Dcmd", "convert", "-Doutput_tfrecord", "oss://b/data/first"]
    config = "--max_image_size 600 --write_parallel_num 8 --num_samples_per_tfrecord 64 --test_ratio 0.1"
    cluster = '-Dcluster={"worker": {"count": 2, "cpu": 800}}'
    spec = dry(capsys, *words, "-Dlabel_file=l.csv", cluster, "-Dconvert_param_config", config)
    assert (spec["data"]["format"], spec["data"]["path"]) == ("easyvision-csv", "l.csv")
    assert spec["unlabelled"] == "leave-out"
    assert (spec["output"], spec["prefix"], spec["to"]["kind"]) == ("oss://b/data", "first_", "tfrecord")
    assert (spec["max_image_size"], spec["workers"], spec["per_file"], spec["test_ratio"]) == (600, 16, 64, 0.1)
    plain = dry(capsys, *words, "-Dlabel_file=l.manifest")
    assert (plain["data"]["format"], plain["workers"], plain["per_file"]) == ("itag", 1, 128)
    assert "-Dlabel_file: must be given" in wrong(capsys, *words)
    text = ["-Dlabel_file=l.csv", "-Dconvert_param_config"]
    assert "'TEXT_END2END': expected CLASSIFICATION" in wrong(capsys, *words, *text, "--model_type TEXT_END2END")
    assert "did you mean --max_image_size?" in wrong(capsys, *words, *text, "--max_imagesize 3")
