"""Batches: the same for any number of workers, in order, without broken images, ended cleanly."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from kinsight.data import ImageLoader, Records, iterate
from kinsight.data import cache as cache_module
from kinsight.errors import DataError, RunError, SpecError, StorageError
from kinsight.specs.data import ImageSpec, LightAugment, NoAugment, PhotoAugment, SymbolAugment

SMALL = ImageSpec(image_size=32)
NUM = 40


def records_of(paths, labels=None):
    labels = [[i % 5] for i in range(len(paths))] if labels is None else labels
    table = pa.table({"uri": pa.array([str(path) for path in paths]), "labels": pa.array(labels, pa.list_(pa.int32()))})
    return Records(table, [str(c) for c in range(5)], "list.txt")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    made = []
    for number in range(NUM):
        noise = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((80, 60))
        made.append(folder / f"{number} 图.{'jpg' if number % 2 else 'png'}")
        noise.save(made[-1])
    return made


def requests(epochs=2, size=16):
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(NUM)
        for start in range(0, NUM, size):
            yield epoch, order[start : start + size]


def read_all(loader, asked=None):
    return list(loader.batches(requests() if asked is None else asked))


def assert_same(ones, others):
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        assert one.epoch == other.epoch
        assert torch.equal(one.index_B, other.index_B)
        assert torch.equal(one.label_B, other.label_B)
        assert torch.equal(one.images_BCHW, other.images_BCHW)


@pytest.mark.parametrize("augment", [PhotoAugment(), LightAugment(), SymbolAugment(), NoAugment()])
def test_workers_and_caches_change_nothing(paths, augment):
    wanted = None
    for workers, cache in ((0, "none"), (1, "none"), (2, "none"), (0, "memory"), (2, "memory")):
        with ImageLoader(records_of(paths), SMALL, augment=augment, seed=5, workers=workers, cache=cache) as loader:
            batches = read_all(loader)
        wanted = wanted or batches
        assert_same(batches, wanted)
    assert [len(batch) for batch in wanted] == [16, 16, 8] * 2
    for batch, (epoch, index) in zip(wanted, requests(), strict=True):
        assert batch.images_BCHW.shape == (len(index), 3, 32, 32)
        assert batch.images_BCHW.dtype == torch.uint8
        assert batch.index_B.tolist() == index.tolist()
        assert batch.label_B.tolist() == (index % 5).tolist()
        assert batch.epoch == epoch


def test_crops_differ_between_epochs_and_seeds_and_repeat_after_a_resume(paths):
    index = np.arange(8)
    photo = PhotoAugment()
    with ImageLoader(records_of(paths), SMALL, augment=photo, seed=1) as loader:
        first, second = read_all(loader, [(0, index), (1, index)])
    with ImageLoader(records_of(paths), SMALL, augment=photo, seed=1) as loader:
        (resumed,) = read_all(loader, [(1, index)])
    with ImageLoader(records_of(paths), SMALL, augment=photo, seed=2) as loader:
        (other,) = read_all(loader, [(1, index)])
    assert torch.equal(second.images_BCHW, resumed.images_BCHW)
    assert not torch.equal(first.images_BCHW, second.images_BCHW)
    assert not torch.equal(other.images_BCHW, second.images_BCHW)


def test_gray_images_have_one_channel(paths):
    (batch,) = iterate(records_of(paths), ImageSpec(image_size=28, color="gray", crop=1.0), batch_size=64)
    assert batch.images_BCHW.shape == (NUM, 1, 28, 28)


def children():
    return {process.pid for process in multiprocessing.active_children()}


def test_workers_live_across_epochs_and_end_with_the_loader(paths):
    before = children()
    loader = ImageLoader(records_of(paths), SMALL, workers=2)
    seen = []
    for _ in range(3):
        read_all(loader)
        seen.append(children() - before)
    assert len(seen[0]) == 2
    assert seen[0] == seen[1] == seen[2]
    loader.close()
    assert not seen[0] & children()
    assert len(read_all(loader)) == 6  # starts again when asked
    loader.close()


def test_an_endless_request_list_is_read_a_little_ahead(paths):
    asked = []

    def endless():
        while True:
            asked.append(len(asked))
            yield 0, np.arange(4)

    with ImageLoader(records_of(paths), SMALL, workers=2) as loader:
        batches = loader.batches(endless())
        for _ in range(3):
            next(batches)
        assert len(asked) <= 10
        assert len(read_all(loader)) == 6  # given up in the middle, then asked anew


def test_the_trainings_own_randomness_is_left_alone(paths):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with ImageLoader(records_of(paths), SMALL, workers=1) as loader:
        read_all(loader)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def damaged(paths, tmp_path):
    cut, text, empty = tmp_path / "cut.jpg", tmp_path / "text.jpg", tmp_path / "empty.png"
    cut.write_bytes(paths[1].read_bytes()[:-200])
    text.write_text("not an image")
    empty.touch()
    return [*paths[:20], cut, text, empty, tmp_path / "absent.jpg", tmp_path, *paths[20:]]


@pytest.mark.parametrize(("workers", "cache", "augment"), [
    (0, "none", NoAugment()), (2, "none", PhotoAugment()),
    (1, "memory", SymbolAugment()), (1, "memory", PhotoAugment()),
])  # fmt: skip
def test_broken_images_are_left_out_counted_and_named(damaged, workers, cache, augment):
    records = records_of(damaged)
    asked = [(0, np.arange(15, 30)), (0, np.arange(20, 25)), (1, np.arange(15, 30))]
    with ImageLoader(records, SMALL, augment=augment, workers=workers, cache=cache, max_broken=0.2) as loader:
        batches = read_all(loader, asked)
    good = [15, 16, 17, 18, 19, 25, 26, 27, 28, 29]
    assert [batch.index_B.tolist() for batch in batches] == [good, [], good]
    assert batches[0].images_BCHW.shape == (10, 3, 32, 32)
    assert batches[0].label_B.tolist() == [index % 5 for index in good]
    assert sorted(loader.broken_index) == [20, 21, 22, 23, 24]  # once each, though met twice
    reasons = {Path(uri).name: reason for uri, reason in loader.broken}
    assert "truncated" in reasons["cut.jpg"]
    assert "known formats" in reasons["text.jpg"]
    assert reasons["empty.png"] == "the file is empty"
    assert reasons["absent.jpg"] == "no such file or directory"
    assert "directory" in reasons[Path(damaged[24]).name]


def test_the_allowed_share_counts_against_the_whole_set(damaged):
    records = records_of(damaged)
    with ImageLoader(records, SMALL, max_broken=5 / 45) as loader:
        read_all(loader, [(0, np.arange(20, 25))])
    with ImageLoader(records, SMALL, max_broken=4 / 45) as loader, pytest.raises(DataError) as caught:
        read_all(loader, [(0, np.arange(18, 25))])
    assert "5 of 45 images" in str(caught.value)
    assert "cut.jpg: " in str(caught.value)


def test_nothing_but_broken_images_always_stops(tmp_path):
    (tmp_path / "a.jpg").write_text("no")
    with pytest.raises(DataError, match="1 of 1 images"):
        list(iterate(records_of([tmp_path / "a.jpg"]), SMALL, batch_size=4))


def test_iterate_is_in_order_and_tells_of_broken_images(damaged):
    told = []
    batches = list(
        iterate(records_of(damaged), SMALL, batch_size=16, workers=1, on_broken=lambda *one: told.append(one))
    )
    assert np.concatenate([batch.index_B for batch in batches]).tolist() == [*range(20), *range(25, 45)]
    assert [index for index, _, _ in told] == [20, 21, 22, 23, 24]


def test_unlabelled_images(paths):
    records = records_of(paths, [[]] * NUM)
    (batch,) = iterate(records, SMALL, batch_size=64, labelled=False)
    assert set(batch.label_B.tolist()) == {-1}
    with pytest.raises(DataError, match="0 labels"):
        ImageLoader(records, SMALL)


def test_the_cache_reports_progress_and_reads_files_once(paths, tmp_path):
    for augment in (NoAugment(), PhotoAugment()):
        copies = []
        for path in paths[:10]:
            copies.append(tmp_path / path.name)
            copies[-1].write_bytes(path.read_bytes())
        filled = []
        with ImageLoader(records_of(copies), SMALL, augment=augment, workers=1, cache="memory") as loader:
            loader.fill(filled.append)
            for copy in copies:
                copy.unlink()
            batches = read_all(loader, [(0, np.arange(10)), (1, np.arange(10))])
        assert sum(filled) == 10
        assert [len(batch) for batch in batches] == [10, 10]


def test_a_cache_that_does_not_fit_is_refused_before_filling(paths, monkeypatch):
    monkeypatch.setattr(cache_module, "available_memory", lambda: 100_000)
    for augment in (NoAugment(), PhotoAugment()):
        loader = ImageLoader(records_of(paths), ImageSpec(image_size=224), augment=augment, cache="memory", processes=3)
        with pytest.raises(SpecError, match=r"cache=memory needs .* 3 times") as caught:
            loader.fill()
        assert caught.value.field == "data.cache"


def test_available_memory_is_known_here():
    free = cache_module.available_memory()
    assert free is not None
    assert 2**20 < free < 2**50


@pytest.mark.parametrize("workers", [0, 1])
def test_a_storage_error_comes_through_as_it_is(workers, monkeypatch):
    """Also where the server that forks workers has been started without these settings."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StorageError, match="credentials"):
        list(iterate(records_of(["s3://bucket/a.jpg"]), SMALL, batch_size=4, workers=workers))
    monkeypatch.setenv("KINSIGHT_S3_ENDPOINT", "not a host")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_PROFILE", "there-is-no-such-profile")
    with pytest.raises(StorageError, match="AWS_PROFILE names a profile"):
        list(iterate(records_of(["s3://bucket/a.jpg"]), SMALL, batch_size=4, workers=workers))


def test_a_dead_worker_is_an_error_with_a_remedy(paths):
    before = children()
    with ImageLoader(records_of(paths), SMALL, workers=1) as loader:
        batches = loader.batches((0, np.arange(NUM)) for _ in range(500))
        next(batches)
        for pid in children() - before:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(RunError, match="died") as caught:
            for _ in batches:
                pass
    assert "workers" in str(caught.value.remedy)


SCRIPT = """
import sys, numpy as np
from pathlib import Path
from kinsight.data import ImageLoader, Records
from kinsight.specs.data import ImageSpec
if __name__ == "__main__":
    with ImageLoader(Records.load(sys.argv[1]), ImageSpec(image_size=32), workers=2) as loader:
        try:
            for number, batch in enumerate(loader.batches((0, np.arange(40)) for _ in range(10**6))):
                if number == 3:
                    print("running", flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_no_process_and_no_shared_memory_is_left_behind(paths, tmp_path, end):
    records_of(paths).save(tmp_path / "records.arrow")
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "records.arrow")], env=env, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    group = processes_of(process.pid)
    assert len(group) >= 3
    if end == signal.SIGINT:
        os.killpg(process.pid, end)  # what a terminal does on Ctrl-C
    else:
        process.kill()
    out, err = process.communicate(timeout=60)
    if end == signal.SIGINT:
        assert out == "interrupted\n"
        assert err == ""
        assert process.returncode == 0
    deadline = time.monotonic() + 30
    while processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not processes_of(process.pid)
    leftovers = [
        path.name for path in Path("/dev/shm").glob("torch_*") if any(f"_{pid}_" in path.name for pid in group)
    ]
    assert not leftovers


def processes_of(session):
    """Living processes of a session, zombies left out."""
    found = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(session)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "Z" not in line.split()[1]]
