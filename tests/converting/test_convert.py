"""Conversions: every form comes back as it was, sizes, broken images, whose the output is, going on after a kill."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conversions import encoded, image_set
from PIL import Image
from tfrecord.reader import tfrecord_loader

from kinsight.converting import convert
from kinsight.data import read_records
from kinsight.data.one_image import read_image
from kinsight.errors import DataError, SpecError
from kinsight.specs.convert import ConvertSpec
from kinsight.specs.data import ImageList, Parquet, TFRecord


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path / "cache"))


def spec(tmp_path, **options):
    data = options.pop("data", None) or {"path": str(image_set(tmp_path / "in"))}
    return {"data": data, "output": str(tmp_path / "out"), "workers": 0, **options}


def contents(records):
    """What a set holds, whatever its order and numbering."""
    names = records.class_names
    return sorted((read_image(records.uri(i)), tuple(names[k] for k in records.labels(i))) for i in range(len(records)))


def sources(kind, out, use):
    match kind:
        case "tfrecord":
            return TFRecord(path=f"{out}/{use}_*.tfrecord")
        case "image-list":
            return ImageList(path=f"{out}/{use}.txt")
        case _:
            return Parquet(path=f"{out}/{use}.parquet")


@pytest.mark.parametrize("kind", ["tfrecord", "image-list", "shards"])
@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_converted_comes_back(tmp_path, kind, workers):
    given = spec(tmp_path, to={"kind": kind}, test_ratio=0.25, workers=workers)
    if kind != "image-list":
        given["per_file"] = 7
    out = convert(given)
    parts = [contents(read_records(sources(kind, out, use))) for use in ("train", "test")]
    held = len(parts[1])
    assert abs(held - 10) <= 1 and len(parts[0]) == 40 - held
    wanted = contents(read_records(ImageList(path=str(tmp_path / "in/list.txt"))))
    assert sorted([*parts[0], *parts[1]]) == wanted
    header = json.loads(Path(out, "convert.json").read_text())
    assert header["train"]["images"] == 40 - held and header["class_names"] == ["c0", "c1", "c2", "c3"]
    assert all(Path(out, name).is_file() for use in ("train", "test") for name in header[use]["files"])
    assert not list(Path(out).glob(".*"))


def test_tfrecords_as_others_read_them(tmp_path):
    out = convert(spec(tmp_path, to={"label_offset": 1}, shuffle=False, per_file=15, prefix="cats_"))
    assert sorted(path.name for path in Path(out).iterdir()) == sorted(
        ["cats_classes.txt", "cats_convert.json", "cats_label_map.pbtxt"]
        + [f"cats_train_0000{n}.tfrecord{end}" for n in range(3) for end in ("", ".idx")]
    )
    first = f"{out}/cats_train_00000.tfrecord"
    rows = list(tfrecord_loader(first, None, shard=None))
    assert len(rows) == 15 and rows[5]["image/class/label"].tolist() == [2, 3]
    assert bytes(rows[3]["image/encoded"]) == encoded(3) and bytes(rows[3]["image/filename"]).decode() == "3 é.jpg"
    assert (rows[0]["image/width"][0], rows[0]["image/height"][0]) == (40, 30)
    # The index beside it is the known one: some reader jumps by it to any record.
    shard = list(tfrecord_loader(first, f"{first}.idx", {"image/encoded": "byte"}, shard=(1, 3)))
    assert [bytes(row["image/encoded"]) for row in shard] == [encoded(i) for i in range(5, 10)]
    source = TFRecord(path=f"{out}/cats_train_*.tfrecord", label_map=f"{out}/cats_label_map.pbtxt")
    assert read_records(source).class_names == ("c0", "c1", "c2", "c3")


def test_parquet_and_tar_as_others_read_them(tmp_path):
    out = convert(spec(tmp_path, to={"kind": "parquet"}, shuffle=False, per_file=30))
    table = pq.read_table(f"{out}/train_00000.parquet")
    assert table["image"][7].as_py() == encoded(7) and table["label"][5].as_py() == ["c1", "c2"]
    out = convert(spec(tmp_path, to={"kind": "shards"}, shuffle=False, output=str(tmp_path / "tar")))
    with tarfile.open(f"{out}/train_00000.tar") as tar:
        names = tar.getnames()
        assert names[:4] == ["000000000.jpg", "000000000.json", "000000001.jpg", "000000001.cls"]
        assert json.load(tar.extractfile("000000005.json"))["names"] == ["c1", "c2"]
        assert tar.extractfile("000000009.jpg").read() == encoded(9)


def test_only_what_is_larger_is_encoded_anew(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    files = {
        "small.jpg": encoded(1, (50, 40)),
        "large.jpg": encoded(2, (200, 100)),
        "side.jpg": encoded(3, (200, 100), exif=exif),
        "clear.png": encoded(4, (120, 60), "PNG", "RGBA"),
        "drawn.gif": encoded(5, (120, 60), "GIF", "P"),
        "cmyk.jpg": encoded(6, (120, 60), mode="CMYK"),
        "grey.png": encoded(7, (120, 60), "PNG", "I;16"),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "list.txt").write_text("".join(f"{name} a\n" for name in files))
    given = spec(tmp_path, data={"path": str(folder / "list.txt")}, max_image_size=60, shuffle=False)
    given["to"] = {"kind": "image-list"}
    records = read_records(ImageList(path=f"{convert(given)}/train.txt"))
    assert records.uri(0) == str(folder / "small.jpg")
    found = [Image.open(io.BytesIO(read_image(records.uri(i)))) for i in range(len(files))]
    assert [image.size for image in found] == [(50, 40), (60, 30), (30, 60), (60, 30), (60, 30), (60, 30), (60, 30)]
    assert [image.format for image in found] == ["JPEG", "JPEG", "JPEG", "PNG", "JPEG", "JPEG", "PNG"]
    means = [np.asarray(image.convert("RGB")).mean() for image in found[1:6]]
    assert np.allclose(means, [9 * seed + 23.5 for seed in (2, 3, 4, 5, 6)], atol=4)


def test_broken_images_are_counted_and_named_up_to_a_limit(tmp_path):
    listed = image_set(tmp_path / "in")
    (tmp_path / "in/3 é.jpg").write_bytes(encoded(3)[:300])
    (tmp_path / "in/4 é.jpg").write_text("no image")
    (tmp_path / "in/5 é.jpg").unlink()
    with pytest.raises(DataError, match=r"3 of 40 images cannot be used; 0\.05 of them may be(.*\n)*.*3 é\.jpg"):
        convert(spec(tmp_path, data={"path": str(listed)}, max_broken=0.05))
    convert(spec(tmp_path, data={"path": str(listed)}, max_broken=0.1))  # the same job, with another limit
    header = json.loads((tmp_path / "out/convert.json").read_text())
    assert header["num_broken"] == 3 and header["train"]["images"] == 37
    assert {Path(uri).name for uri, _ in header["broken"]} == {"3 é.jpg", "4 é.jpg", "5 é.jpg"}


def test_images_without_labels(tmp_path):
    folder = tmp_path / "in"
    image_set(folder)
    (folder / "more.csv").write_text("image,a,b\n1 é.jpg,1,0\n2 é.jpg,0,0\n")
    data = {"format": "csv", "path": str(folder / "more.csv"), "label_columns": ["*"]}
    with pytest.raises(DataError, match=r"(more\.csv|2 é\.jpg).*has no label; so have 0 more"):
        convert(spec(tmp_path, data=data))
    out = convert(spec(tmp_path, data=data, unlabelled="leave-out"))
    assert len(read_records(TFRecord(path=f"{out}/train_*.tfrecord"))) == 1
    out = convert(spec(tmp_path, data=data, unlabelled="keep", output=str(tmp_path / "all")))
    assert len(read_records(TFRecord(path=f"{out}/train_*.tfrecord"), labelled=False)) == 2
    (folder / "more.csv").write_text("image,a,b\n1 é.jpg,1,?\n")
    with pytest.raises(DataError, match="nobody knows"):
        convert(spec(tmp_path, data=data, output=str(tmp_path / "unknown")))


def test_whose_the_output_is(tmp_path):
    given = spec(tmp_path)
    convert(given)
    with pytest.raises(SpecError, match="holds a finished conversion"):
        convert(given)
    before = (tmp_path / "out/train_00000.tfrecord").read_bytes()
    convert(given | {"per_file": 10, "seed": 1}, overwrite=True)
    assert len(list((tmp_path / "out").glob("*.tfrecord"))) == 4
    convert(given, overwrite=True)
    assert (tmp_path / "out/train_00000.tfrecord").read_bytes() == before
    assert len(list((tmp_path / "out").glob("*.tfrecord"))) == 1
    (tmp_path / "out/convert.json").unlink()
    with pytest.raises(SpecError, match="holds files of the names that are to be written, such as classes"):
        convert(given)


@pytest.mark.parametrize("kind", ["tfrecord", "image-list"])
def test_a_source_is_never_replaced_by_what_it_becomes(tmp_path, kind):
    out = convert(spec(tmp_path, to={"kind": kind}))
    before = {path.name: path.read_bytes() for path in Path(out).iterdir()}
    again = {"data": sources(kind, out, "train").model_dump(), "output": out, "workers": 0, "to": {"kind": kind}}
    with pytest.raises(SpecError, match=r"holds what is to be converted, such as .*train"):
        convert(again, overwrite=True)
    assert {path.name: path.read_bytes() for path in Path(out).iterdir()} == before
    convert(again | {"prefix": "again_"})


def test_a_killed_job_goes_on(tmp_path):
    given = spec(tmp_path, data={"path": str(image_set(tmp_path / "in", 300))}, per_file=10, workers=1)
    whole = convert(given | {"output": str(tmp_path / "whole")})
    code = f"from kinsight.converting import convert; convert({given!r})"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.DEVNULL)
    while len(list((tmp_path / "out").glob("*.tfrecord"))) < 3 and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out/convert.json").exists()
    with pytest.raises(SpecError, match="other settings: seed was 0, now 1"):
        convert(given | {"seed": 1})
    convert(given)
    names, found = (
        sorted(path.name for path in Path(folder).iterdir() if path.name != "convert.json")
        for folder in (whole, tmp_path / "out")
    )
    assert names == found
    assert all((tmp_path / "out" / name).read_bytes() == Path(whole, name).read_bytes() for name in names)


def test_settings_without_effect_are_errors():
    base = {"data": {"path": "a"}, "output": "b"}
    for more, message in (
        ({"quality": 80}, "quality has no effect"),
        ({"to": {"kind": "image-list"}, "per_file": 5}, "per_file has no effect"),
        ({"prefix": "a/b"}, "put folders into output"),
    ):
        with pytest.raises(ValueError, match=message):
            ConvertSpec.model_validate(base | more)
    printed = ConvertSpec.model_validate(base | {"to": {"kind": "image-list"}}).model_dump(mode="json")
    assert ConvertSpec.model_validate(printed).model_dump(mode="json") == printed
