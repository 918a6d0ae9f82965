"""run_dcnet.py as its page prints it: both examples, every wrong word, odd data, stopped and gone on with."""

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compat_cases import Compat, Outcome

from kinsight.cli import main
from kinsight.compat.ascend import training
from kinsight.compat.ascend.flags import RUN_DCNET
from kinsight.partition import Partition, fit, learn
from kinsight.partition.evaluate import evaluate

PERCENTS = ["--percents", "0.0", "0.8", "1.0", "1.25", "1.50"]
SMALL = ["--param_list", "8", "16", "32", "--niter", "5", "--batch_size", "256", "--log_interval", "1"]


def faces(folder: Path, *, people: int = 60, views: int = 8, dim: int = 8, seed: int = 0) -> None:
    """A base with several vectors of each person, queries of some of them, and where these are in the base."""
    random = np.random.default_rng(seed)
    who = random.permutation(np.repeat(np.arange(people), views))
    centre_PD = random.normal(size=(people, dim))
    asked = random.choice(people, 20, replace=False)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "base.npy", (centre_PD[who] + 0.2 * random.normal(size=(len(who), dim))).astype(np.float32))
    np.save(folder / "query.npy", (centre_PD[asked] + 0.2 * random.normal(size=(20, dim))).astype(np.float32))
    truth = np.full((20, 100), -1, np.int64)
    truth[:, :views] = [np.flatnonzero(who == person) for person in asked]
    np.save(folder / "gt.npy", truth)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a user with `data/learn10m.npy` and two sets to measure on."""
    random = np.random.default_rng(9)
    (tmp_path / "data").mkdir()
    people = random.normal(size=(150, 8)).repeat(4, 0)
    np.save(tmp_path / "data/learn10m.npy", (people + 0.2 * random.normal(size=people.shape)).astype(np.float32))
    faces(tmp_path / "data/webfaceLPS")
    faces(tmp_path / "data/webfaceST", seed=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.fixture
def dcnet(data: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Compat]:
    """Run `kinsight compat run_dcnet.py` on the data, small; words given again count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(*words: str) -> Outcome:
        capsys.readouterr()
        usual = ["--save_path", "./save_path/", "--data_path", "data", "--data_name", "webfaceLPS", "--gpu", "-1"]
        code = main(["compat", "run_dcnet.py", *usual, "--learn_name", "learn10m", "--epochs", "3", *PERCENTS, *words])
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    yield run
    torch.set_num_threads(threads)


def table(name: str = "webfaceLPS", folder: str = "save_path") -> dict[str, Any]:
    return json.loads(Path(folder, f"recall-{name}.json").read_text())


def weights(folder: str) -> dict[str, bytes]:
    return {name: Path(folder, name).read_bytes() for name in ("ivfast.npy", "ivfast.safetensors")}


def test_the_flags_are_those_of_the_page() -> None:
    names = (
        "save_path data_path data_name learn_name warmup epochs metric batch_size valid_batch_size start_epoch lr "
        "use_amp apex_mode scale ftopk param_list use_drop drop_prop nlist niter nprobes percents gpu seed "
        "log_interval eval ai_center"
    )
    assert [flag.name for flag in RUN_DCNET] == names.split()
    defaults = {flag.name: flag.default for flag in RUN_DCNET}
    assert defaults["param_list"] == [256, 512, 1024, 2048, 8192, 16384]
    assert defaults["nprobes"] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 32]
    known = [defaults[name] for name in ("warmup", "epochs", "metric", "lr", "use_amp", "apex_mode", "scale", "niter")]
    assert known == [3, 20, "IP", 0.0005, False, "O2", 1024, 128]


def test_both_examples(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the page writes them, but for sizes; on a machine without a GPU."""
    first = (
        "python3 run_dcnet.py --save_path ./save_path/ --data_path data/ --data_name webfaceLPS --learn_name learn10m "
        "--warmup 3 --epochs 5 --lr 1e-4 --param_list 8 16 32 --use_drop True --drop_prop 0.05 "
        "--percents 0.0 0.8 1.0 1.25 1.50 --use_amp True --gpu 3 --niter 5 --batch_size 256"
    )  # fmt: skip
    assert main(["compat", *first.split()]) == 0
    out, err = capsys.readouterr()
    assert "recall of identities" in out and "percent 1.25" in out and "epoch 5/5" in out
    if not torch.cuda.is_available():
        assert err.count("has no GPU") == 1 and "--apex_mode and --scale have no effect" in err
    folder = Path("save_path")
    made = {each.name for each in folder.iterdir()}
    assert made >= {"ivfast.npy", "ivfast.safetensors", "partition.json", "run_dcnet.log", "epochs", "work"}
    assert made >= {f"recall-webfaceLPS.{ending}" for ending in ("json", "csv", "png")}
    centres = np.load(folder / "ivfast.npy", allow_pickle=False)
    assert centres.shape == (32, 8) and centres.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
    assert "epoch 5/5" in (folder / "run_dcnet.log").read_text()
    second = (
        "python3 run_dcnet.py --save_path ./save_path/ --data_path data/ --data_name webfaceST --learn_name learn10m "
        "--eval True --ai_center ./save_path/ivfast.npy --gpu 3 --percents 0.0 0.8 1.0 1.25 1.50"
    )
    before = weights("save_path")
    assert main(["compat", *second.split()]) == 0
    out, err = capsys.readouterr()
    assert "webfaceST: 480 base vectors" in out and "ranked by the network" in out and "no effect" not in err
    assert weights("save_path") == before and (folder / "recall-webfaceLPS.json").exists()


def test_the_table(dcnet: Compat) -> None:
    assert dcnet(*SMALL, "--nprobes", "1", "2", "32").code == 0
    told = table()
    rows = told["rows"]
    assert [(row["percent"], row["nprobe"]) for row in rows] == [
        (percent, probe) for percent in (0, 0.8, 1, 1.25, 1.5) for probe in (1, 2, 32)
    ]
    for row in rows:
        if row["nprobe"] == 32:  # all lists: everything is found, everything scanned
            assert row["in_lists"] == 1 and row["scanned"] == pytest.approx(1 + row["percent"])
    alone = [row["in_lists"] for row in rows if row["nprobe"] == 1]
    assert alone == sorted(alone) and alone[-1] > alone[0]
    assert told["routing"]["multiply_adds"] == 8 * 32 + 8 * 16 + 16 * 32
    assert [each["stored"] for each in told["lists"]] == [1, 1.8, 2, 2.25, 2.5]
    # top-1 with all lists is a search of the whole base
    base, query, truth = (np.load(f"data/webfaceLPS/{name}.npy") for name in ("base", "query", "gt"))
    base, query = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (base, query))
    hit = np.mean([best in there for best, there in zip((query @ base.T).argmax(1), truth, strict=True)])
    assert rows[2]["top1"] == pytest.approx(hit)
    read = list(csv.DictReader(Path("save_path/recall-webfaceLPS.csv").read_text().splitlines()))
    assert len(read) == 15 and float(read[0]["in_lists"]) == rows[0]["in_lists"]
    assert Path("save_path/recall-webfaceLPS.png").read_bytes()[:4] == b"\x89PNG"


def test_without_the_network_the_centres_route(dcnet: Compat) -> None:
    assert dcnet(*SMALL).code == 0
    Path("alone").mkdir()
    shutil.copy("save_path/ivfast.npy", "alone")
    words = ["--save_path", "other", "--eval", "True", "--ai_center"]
    outcome = dcnet(*words, "alone/ivfast.npy")
    assert outcome.code == 0 and "the centres route" in outcome.err and "ranked by the centres" in outcome.out
    assert table(folder="other")["routing"]["multiply_adds"] == 8 * 32
    outcome = dcnet(*words, "save_path/ivfast.npy", "--metric", "L2")
    assert outcome.code == 2 and "the model was trained with IP" in outcome.err
    outcome = dcnet(*words, "nowhere/ivfast.npy")
    assert outcome.code == 3 and "nowhere/ivfast.npy is not there" in outcome.err
    np.save("save_path/ivfast.npy", np.load("save_path/ivfast.npy")[::-1])
    outcome = dcnet(*words, "save_path/ivfast.npy")
    assert outcome.code == 0 and "not the centres of the network beside it" in outcome.err


def test_lengths_count_under_l2_alone(dcnet: Compat, data: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("learn10m", "webfaceLPS/base", "webfaceLPS/query"):
        vectors = np.load(data / f"{name}.npy")
        np.save(data / f"{name}.npy", vectors * random.lognormal(0, 2, (len(vectors), 1)).astype(np.float32))
    base, query, truth = (np.load(data / f"webfaceLPS/{name}.npy") for name in ("base", "query", "gt"))
    near_Q = ((query[:, None] - base[None]) ** 2).sum(2).argmin(1)
    hit = np.mean([best in there for best, there in zip(near_Q, truth, strict=True)])
    whole = ["--nprobes", "32", *SMALL]
    assert dcnet(*whole).code == 0
    assert table()["rows"][0]["top1"] > hit
    assert dcnet(*whole, "--metric", "L2", "--save_path", "other").code == 0
    assert table(folder="other")["rows"][0]["top1"] == pytest.approx(hit)
    assert Partition.load("other").header.metric == "l2"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--epoch", "3"], 2, "did you mean --epochs?"),
        (["--percents", "-0.5"], 2, "--percents: -0.5: copies per base vector are 0 to 9"),
        (["--percents", "0.8,1.0"], 2, "--percents: '0.8,1.0': expected a number"),
        (["--percents", "nan"], 2, "--percents: nan: copies"),
        (["--percents"], 2, "--percents: needs a value"),
        (["--nlist", "64"], 2, "--nlist: 64: the last of --param_list 8 16 32 must be the same"),
        (["--param_list", "9", "16", "32"], 3, "holds vectors of 8 dimensions, the first of --param_list says 9"),
        (["--param_list", "8"], 2, "--param_list: [8]: two widths at least"),
        (["--param_list", "8", "x"], 2, "--param_list: 'x': expected a whole number"),
        (["--param_list", "8", "601"], 3, "600 learn vectors are too few for 601 lists"),
        (["--metric", "ip"], 2, "--metric: ip: must be IP or L2"),
        (["--use_amp", "maybe"], 2, "expected True or False"),
        (["--apex_mode", "O3"], 2, "must be O1 or O2"),
        (["--start_epoch", "4"], 2, "--start_epoch: 4: is beyond --epochs 3"),
        (["--start_epoch", "2"], 2, "--start_epoch: 2: save_path holds no training of these data"),
        (["--nprobes", "1", "33"], 2, "--nprobes: 33: there are 32 lists"),
        (["--nprobes", "0"], 2, "--nprobes: 0: must be at least 1"),
        (["--gpu", "-2"], 2, "--gpu: -2: must be at least -1"),
        (["--lr", "0"], 2, "--lr: 0.0: must be above 0"),
        (["--lr", "1e38"], 2, "--lr: 1e+38: must be above 0, and 1e+30 at most"),
        (["--batch_size", "1"], 2, "--batch_size: 1: must be 2 at least"),
        (["--ftopk", "600"], 2, "--ftopk: 600: there are 600 learn vectors alone"),
        (["--epochs", "20000"], 2, "--epochs: 20000: must be less than or equal to 10000"),
        (["--seed", "2147483648"], 2, "--seed: 2147483648: must be less than 2147483648"),
        (["--param_list", "8", "4194305"], 2, "--param_list: 4194305: must be less than or equal to 4194304"),
        (["--ftopk", "1001"], 2, "--ftopk: 1001: must be less than or equal to 1000"),
        (["--niter", "1001"], 2, "--niter: 1001: must be less than or equal to 1000"),
        (["--batch_size", "0"], 2, "--batch_size: 0: must be at least 1"),
        (["--drop_prop", "1"], 2, "--drop_prop: 1.0: must be 0 or more, and below 1"),
        (["--eval", "True"], 2, "--ai_center: must be given with --eval True"),
        (["--learn_name", "nowhere"], 3, "data/nowhere.npy is not there"),
        (["--data_name", "nowhere"], 3, "data/nowhere/base.npy is not there"),
        (["--save_path="], 2, "--save_path: must be given"),
    ],
)
def test_wrong_words(dcnet: Compat, words: list[str], code: int, said: str) -> None:
    outcome = dcnet(*SMALL, *words)
    assert outcome.code == code and said in outcome.err, outcome.err
    assert "Traceback" not in outcome.err and not Path("save_path/partition.json").exists()


def test_percents_must_be_given(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--save_path", "s", "--data_path", "data", "--data_name", "webfaceLPS", "--learn_name", "learn10m"]
    assert main(["compat", "run_dcnet.py", *words]) == 2
    assert "--percents: must be given" in capsys.readouterr().err


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def apply(data: Path) -> None:
        np.save(data / f"{name}.npy", change(np.load(data / f"{name}.npy")), allow_pickle=True)

    return apply


def put(row: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[row] = value
        return array

    return change


def truncated(data: Path) -> None:
    whole = (data / "webfaceLPS/base.npy").read_bytes()
    (data / "webfaceLPS/base.npy").write_bytes(whole[:-100])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (changed("learn10m", put(7, np.nan)), "data/learn10m.npy: row 7 holds NaN"),
        (changed("learn10m", put(7, 0)), "data/learn10m.npy: row 7 is a zero vector"),
        (changed("webfaceLPS/base", put(401, np.inf)), "base.npy: row 401 holds NaN, infinity"),
        (changed("webfaceLPS/query", put(3, 0)), "query.npy: row 3 is a zero vector"),
        (changed("webfaceLPS/query", lambda array: array[:, :7]), "query.npy: holds vectors of 7 dimensions"),
        (changed("webfaceLPS/base", lambda array: array[:-1]), "gt.npy: line"),
        (changed("webfaceLPS/base", lambda array: array.astype(object)), "base.npy: is not a plain npy file"),
        (changed("webfaceLPS/gt", lambda array: array[:-1]), "has 19 lines for 20 queries"),
        (changed("webfaceLPS/gt", put(2, -2)), "line 2 names row -2 of a base of 480"),
        (changed("webfaceLPS/gt", lambda array: array * 1.0), "gt.npy: is float64 (20, 100)"),
        (changed("webfaceLPS/gt", lambda array: array * 0 - 1), "no query has a true row"),
        (truncated, "base.npy: is not a plain npy file"),
    ],
    ids=[
        *("nan", "zero", "inf", "zero-query", "dim", "short-base", "objects"),
        *("short-gt", "-2", "float-gt", "none", "cut"),
    ],
)  # fmt: skip
def test_bad_data(dcnet: Compat, data: Path, damage: Callable[[Path], None], said: str) -> None:
    if said.startswith("gt.npy: line"):  # the row that is gone is someone's
        truth = np.load(data / "webfaceLPS/gt.npy")
        truth[0, 0] = 479
        np.save(data / "webfaceLPS/gt.npy", truth)
    damage(data)
    outcome = dcnet(*SMALL)
    assert outcome.code == 3 and said in outcome.err, outcome.err
    assert not Path("save_path/recall-webfaceLPS.json").exists()


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.float16])
def test_other_numbers_and_orders(dcnet: Compat, data: Path, dtype: type) -> None:
    """They are read as float32; of these numbers nothing is lost by that."""
    for name in ("learn10m", "webfaceLPS/base", "webfaceLPS/query"):
        vectors = np.load(data / f"{name}.npy")
        np.save(data / f"{name}.npy", np.clip(vectors * 20 + 100, 0, 255).astype(np.uint8).astype(np.float32))
    assert dcnet(*SMALL, "--metric", "L2").code == 0
    expected = table()
    for name in ("learn10m", "webfaceLPS/base", "webfaceLPS/query"):
        np.save(data / f"{name}.npy", np.asfortranarray(np.load(data / f"{name}.npy").astype(dtype)))
    assert dcnet(*SMALL, "--metric", "L2", "--save_path", "other").code == 0
    assert table(folder="other") == expected


def test_identical_vectors(dcnet: Compat, data: Path) -> None:
    np.save(data / "learn10m.npy", np.ones((600, 8), np.float32))
    outcome = dcnet(*SMALL)
    assert outcome.code == 3 and "look for what made them alike" in outcome.err


def test_queries_without_true_rows_do_not_count(dcnet: Compat, data: Path) -> None:
    changed("webfaceLPS/gt", put(5, -1))(data)
    outcome = dcnet(*SMALL)
    assert outcome.code == 0 and "1 of 20 queries have no true row" in outcome.err
    assert table()["queries"] == 19


@pytest.mark.parametrize("drop", [[], ["--use_drop", "True", "--drop_prop", "0.4"]], ids=["plain", "drop"])
def test_stopped_and_gone_on_with_it_is_the_same(
    drop: list[str], dcnet: Compat, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*SMALL, *drop]
    assert dcnet(*words, "--save_path", "whole").code == 0
    keep = training.Training.keep

    def stop(self: training.Training, state: Any) -> None:
        keep(self, state)
        if state.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training.Training, "keep", stop)
        assert dcnet(*words).code == 130
    outcome = dcnet(*words)
    assert outcome.code == 0 and "epoch 3/3" in outcome.out and "epoch 2/3" not in outcome.out
    assert np.array_equal(np.load("save_path/ivfast.npy"), np.load("whole/ivfast.npy"))
    assert Path("save_path/epochs/epoch-003.safetensors").read_bytes() == (
        Path("whole/epochs/epoch-003.safetensors").read_bytes()
    )
    assert table() == table(folder="whole")
    again = dcnet(*words)
    assert again.code == 0 and "is finished: measuring it" in again.err and "epoch" not in again.out


def test_start_epoch_goes_on_from_what_was_kept(dcnet: Compat) -> None:
    assert dcnet(*SMALL, "--epochs", "6", "--save_path", "whole").code == 0
    assert dcnet(*SMALL, "--epochs", "2").code == 0
    outcome = dcnet(*SMALL, "--epochs", "4", "--start_epoch", "2", "--lr", "1e-4")
    assert outcome.code == 0 and "epoch 3/4" in outcome.out and "epoch 2/4" not in outcome.out, outcome.err
    assert "begins anew" not in outcome.err and "replaced" not in outcome.err
    kept = [each.name for each in sorted(Path("save_path/epochs").iterdir())]
    assert kept == [f"epoch-00{epoch}.safetensors" for epoch in (1, 2, 3, 4)]
    outcome = dcnet(*SMALL, "--epochs", "4", "--start_epoch", "1")
    assert outcome.code == 0 and "the optimizer begins anew" in outcome.err and "epoch 2/4" in outcome.out
    outcome = dcnet(*SMALL, "--epochs", "8", "--start_epoch", "7")
    assert outcome.code == 2 and "has no weights of it; it has: 1, 2, 3, 4" in outcome.err
    outcome = dcnet(*SMALL, "--epochs", "8", "--start_epoch", "3", "--niter", "6")
    assert outcome.code == 2 and "holds no training of these data and settings" in outcome.err
    assert Path("save_path/partition.json").exists()


def test_another_training_replaces_it_and_says_so(dcnet: Compat) -> None:
    assert dcnet(*SMALL).code == 0
    before = weights("save_path")
    outcome = dcnet(*SMALL, "--lr", "1e-3")
    assert outcome.code == 0 and "holds a training of other settings: it is replaced" in outcome.err
    assert weights("save_path") != before


def test_the_old_model_stays_until_another_is_trained(dcnet: Compat, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dcnet(*SMALL).code == 0
    before = weights("save_path")

    def stop(self: training.Training, state: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training.Training, "keep", stop)
        assert dcnet(*SMALL, "--seed", "2").code == 130
    assert weights("save_path") == before and Partition.load("save_path").header.spec["seed"] == 1
    assert dcnet("--save_path", "other", "--eval", "True", "--ai_center", "save_path/ivfast.npy").code == 0
    with monkeypatch.context() as patched:
        patched.setattr(fit, "routing_loss", lambda score_QL, _: score_QL.sum() * torch.nan)
        outcome = dcnet(*SMALL, "--seed", "2", "--lr", "0.001")
    assert outcome.code == 1 and "--lr=0.001: the loss stays not finite" in outcome.err, outcome.err
    assert "fit." not in outcome.err.split("error:")[1] and weights("save_path") == before
    assert dcnet(*SMALL, "--seed", "2").code == 0
    assert Partition.load("save_path").header.spec["seed"] == 2


def test_one_vector_to_learn_from(dcnet: Compat, data: Path) -> None:
    np.save(data / "learn10m.npy", np.ones((1, 8), np.float32))
    outcome = dcnet(*SMALL)
    assert outcome.code == 3 and "give 16 learn vectors at least" in outcome.err


def test_killed_at_any_moment_and_run_again(dcnet: Compat) -> None:
    """By SIGKILL: among the stages, in the training, twice while the model is saved, while the table is measured and
    while it is written. Every run goes on, and the last one gives what one run gives.
    """
    words = ["--save_path", "killed", "--data_path", "data", "--data_name", "webfaceLPS", "--learn_name", "learn10m"]
    words += ["--gpu", "-1", "--epochs", "6", *PERCENTS, *SMALL, "--use_drop", "True", "--drop_prop", "0.3"]
    moments = ["work/lists.safetensors", "epochs/epoch-004.safetensors", "ivfast.npy.new", "killed/ivfast.safetensors"]
    moments += ["top1-3-0000.safetensors", "recall-webfaceLPS.csv"]
    repository, script = Path(__file__).resolve().parents[2], Path(__file__).with_name("killing_dcnet.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    command = [sys.executable, str(script), ",".join(moments), *words]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=280)
    assert run.stdout == "-9 -9 -9 -9 -9 -9 0", (run.stdout, run.stderr[-3000:])
    said = [Path(f"said-{number}").read_text() for number in range(7)]
    assert "epoch 3/6" in said[1] and "epoch 3/6" not in said[2] and "epoch 6/6" in said[2]
    assert all("epoch 6/6" not in each for each in said[3:])
    assert all("is finished: measuring it" in each for each in said[5:])
    assert dcnet(*words[2:], "--save_path", "whole").code == 0
    assert table(folder="killed") == table(folder="whole")
    assert weights("killed") == weights("whole")
    assert not list(Path("killed").glob("*.new")) and not list(Path("killed/epochs").glob(".*"))


def test_a_full_disk(dcnet: Compat) -> None:
    """A network of 27 KB cannot be kept: an error that says what to do, nothing left over, and room lets it go on."""
    words = [*SMALL, "--param_list", "8", "128", "32"]
    assert dcnet(*words, "--save_path", "whole").code == 0
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        outcome = dcnet(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert outcome.code == 1 and "cannot hold a file of this size" in outcome.err, outcome.err
    assert not [each for each in Path("save_path").rglob("*") if "aside" in each.name]
    assert dcnet(*words).code == 0
    assert weights("save_path") == weights("whole")


@pytest.mark.parametrize("name", ["lists", "truth", "fit", "training"])
def test_damaged_work_is_done_again(name: str, dcnet: Compat, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dcnet(*SMALL, "--save_path", "whole").code == 0
    keep = training.Training.keep

    def stop(self: training.Training, state: Any) -> None:
        keep(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training.Training, "keep", stop)
        assert dcnet(*SMALL).code == 130
    file = Path("save_path/work", f"{name}.json" if name == "training" else f"{name}.safetensors")
    file.write_bytes(file.read_bytes()[:-20])
    outcome = dcnet(*SMALL)
    assert outcome.code == 0 and f"{file.name}: cannot be read" in outcome.err
    assert weights("save_path") == weights("whole")


def test_a_partition_with_components_is_judged_as_its_lists_are(dcnet: Compat, data: Path) -> None:
    """Among principal components products do not rank as distances do."""
    learned = {"vectors": str(data / "learn10m.npy"), "output": "part", "metric": "cosine", "lists": 16}
    learn(learned | {"components": 5, "held_out": 100, "device": "cpu", "fit": {"epochs": 2}})
    words = ["--eval", "True", "--ai_center", "part/ivfast.npy", "--save_path", "other", "--nprobes", "1", "3", "16"]
    assert dcnet(*words, "--percents", "0", "1").code == 0
    told, place = table(folder="other"), data / "webfaceLPS"
    files = {"base": str(place / "base.npy"), "queries": str(place / "query.npy"), "truth": str(place / "gt.npy")}
    found = evaluate({"partition": "part", "identity": True, "copies": ["ratio"], "budgets": [0, 1], **files,
                      "probes": [1, 3, 16], "device": "cpu"})["variants"]  # fmt: skip
    assert told["routing"]["multiply_adds"] == found[0]["multiply_adds"] > 16 * 5
    rows = [row for row in told["rows"] if row["percent"] == 0]
    for name in ("in_lists", "top1", "scanned"):
        assert [row[name] for row in rows] == pytest.approx(found[0][name])
    assert told["lists"][1]["imbalance"] == pytest.approx(found[1]["imbalance"])


def test_an_index_is_built_on_it(dcnet: Compat) -> None:
    assert dcnet(*SMALL).code == 0
    found = Partition.load("save_path")
    assert (found.header.lists, found.header.dim, found.header.metric, found.header.hidden) == (32, 8, "cosine", (16,))
    words = ["data/webfaceLPS/base.npy", "--partition", "save_path", "--output", "index"]
    assert main(["index", "build", *words]) == 0
