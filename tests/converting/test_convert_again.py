"""What --overwrite takes away: all that an earlier job left, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import servers
from conversions import image_set

from kinsight import storage
from kinsight.converting import convert
from kinsight.data import read_records
from kinsight.errors import SpecError
from kinsight.specs.data import ImageList, TFRecord

SCRIPT = """
import sys
from kinsight.converting import convert
print("started")
convert({"data": {"path": sys.argv[1]}, "output": sys.argv[2], "workers": 2, "per_file": 10})
"""


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path / "cache"))


def pictures(folder):
    return sorted(path.name for path in Path(folder).glob("*images/*"))


def test_pictures_of_an_earlier_list_go(tmp_path):
    to = {"kind": "image-list", "copy_images": True}
    out = str(tmp_path / "out")
    convert({"data": {"path": str(image_set(tmp_path / "many", 12))}, "output": out, "workers": 0, "to": to})
    assert len(pictures(out)) == 12
    few = {"data": {"path": str(image_set(tmp_path / "few", 5))}, "output": out, "workers": 0}
    for name in ("mine.jpg", "0000000001.jpg"):  # nothing of ours is called so
        Path(out, "images", name).write_bytes(b"x")
    convert(few | {"to": to}, overwrite=True)
    assert pictures(out) == [
        *(f"{i:09d}.jpg" for i in range(1)),
        "0000000001.jpg",
        *(f"{i:09d}.jpg" for i in range(1, 5)),
        "mine.jpg",
    ]
    convert(few, overwrite=True)  # as TFRecords now: the list is gone, and so are its pictures
    assert pictures(out) == ["0000000001.jpg", "mine.jpg"]
    assert not Path(out, "train.txt").exists()


def test_pictures_that_no_list_left_stay(tmp_path):
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    (out / "images/000000001.jpg").write_bytes(b"somebody's")
    given = {"data": {"path": str(image_set(tmp_path / "in", 5))}, "output": str(out), "workers": 0}
    convert(given)
    convert(given, overwrite=True)
    assert (out / "images/000000001.jpg").read_bytes() == b"somebody's"
    with pytest.raises(SpecError, match=r"holds files of the names that are to be written, such as a_images/0000"):
        (out / "a_images").mkdir()
        (out / "a_images/000000003.jpg").write_bytes(b"somebody's")
        convert(given | {"prefix": "a_", "to": {"kind": "image-list", "copy_images": True}})


def test_a_list_is_not_replaced_by_its_own_pictures(tmp_path):
    out = str(tmp_path / "out")
    to = {"kind": "image-list", "copy_images": True}
    convert({"data": {"path": str(image_set(tmp_path / "in", 5))}, "output": out, "workers": 0, "to": to})
    copied = tmp_path / "copied.txt"
    listed = read_records(ImageList(path=f"{out}/train.txt"))
    copied.write_text("".join(f"{listed.uri(i)} a\n" for i in range(len(listed))))
    with pytest.raises(SpecError, match=r"holds what is to be converted, such as .*/images/00000000"):
        convert({"data": {"path": str(copied)}, "output": out, "workers": 0}, overwrite=True)
    assert len(pictures(out)) == 5


def test_local_images_to_an_object_store_by_processes(tmp_path, monkeypatch):
    """The parent has spoken to the store when the processes start: they start afresh, not forked."""
    from kinsight.data import processes

    methods = []
    context_of = processes.get_context
    monkeypatch.setattr(processes, "get_context", lambda method: methods.append(method) or context_of(method))
    monkeypatch.setenv("KINSIGHT_STORAGE_TIMEOUT_S", "20")
    with servers.rclone_server(tmp_path / "server") as server:
        for name, value in server.environment("s3").items():
            monkeypatch.setenv(name, value)
        out = f"s3://{server.bucket}/converted"
        data = {"path": str(image_set(tmp_path / "in", 30))}
        convert({"data": data, "output": out, "workers": 2, "per_file": 10})
        assert methods == ["spawn"]
        assert json.loads(storage.read_text(f"{out}/convert.json"))["train"]["images"] == 30
        assert len(read_records(TFRecord(path=f"{out}/train_*.tfrecord"))) == 30
        (tmp_path / "script.py").write_text(SCRIPT)  # without a main guard
        words = [sys.executable, str(tmp_path / "script.py"), data["path"], f"s3://{server.bucket}/by-script"]
        run = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
        assert run.returncode == 0, run.stderr
        assert run.stdout.split() == ["started"]
        storage.close_clients()
    convert({"data": data, "output": str(tmp_path / "out"), "workers": 2, "per_file": 10})
    assert methods[-1] in ("fork", "spawn") and len(methods) == 2
