"""TFRecord files as a source: labels, names, offsets, patterns, the index, and what may be wrong with any of them."""

import gzip

import numpy as np
import pytest
from tfrecord_files import example, picture, write_shard

from kinsight import storage
from kinsight.data import ImageLoader, read_records
from kinsight.data.one_image import read_image
from kinsight.data.tfrecord import Keys, encode_example, find_shards, frame, index_shards
from kinsight.errors import DataError, SpecError, StorageError
from kinsight.specs.data import ImageSpec, TFRecord


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path / "cache"))


def read(path, **options):
    labelled = options.pop("labelled", True)
    own = {
        name: options.pop(name) for name in ("classes", "num_classes", "own_vocabulary", "learned") if name in options
    }
    return read_records(TFRecord(path=str(path), **options), labelled=labelled, **own)


def labels_of(records):
    return [records.labels(i) for i in range(len(records))]


def test_images_labels_and_names_over_shards(tmp_path):
    write_shard(tmp_path / "train_0.tfrecord", [example(i, [i % 3], [f"c{i % 3}"]) for i in range(5)])
    write_shard(tmp_path / "train_1.tfrecord", [example(i, [i % 3], [f"c{i % 3}"]) for i in range(5, 9)])
    write_shard(tmp_path / "test_0.tfrecord", [example(0, [0], ["c0"])])
    (tmp_path / "train_0.tfrecord.idx").write_text("nonsense")
    records = read(tmp_path / "train_*")
    assert records.class_names == ("c0", "c1", "c2")
    assert labels_of(records) == [[i % 3] for i in range(9)]
    assert [read_image(records.uri(i)) for i in range(9)] == [picture(i) for i in range(9)]
    assert records.place(6) == records.uri(6) and records.uri(6).startswith(f"{tmp_path}/train_1.tfrecord#bytes=")
    assert len(set(records.uris.to_pylist())) == 9 and records.sketch != read(tmp_path / "test_0.tfrecord").sketch


def test_several_labels_none_and_numbers_alone(tmp_path):
    path = write_shard(tmp_path / "a.tfrecord", [example(0, [2, 0]), example(1, []), example(2, [5])])
    records = read(path, labelled=False)
    assert labels_of(records) == [[1, 0], [], [2]] and records.class_names == ("0", "2", "5")
    with pytest.raises(
        DataError, match=r"record 1 \(byte \d+\): no label in 'image/class/label' or 'image/class/text'"
    ):
        read(path)
    assert labels_of(read(path, labelled=False, num_classes=6)) == [[2, 0], [], [5]]
    with pytest.raises(DataError, match=r"record 2 .*label 5 is outside 0\.\.4"):
        read(path, labelled=False, num_classes=5)


def test_labels_that_start_at_one(tmp_path):
    path = write_shard(tmp_path / "a.tfrecord", [example(i, [i + 1]) for i in range(3)])
    assert labels_of(read(path, num_classes=3, label_offset=1)) == [[0], [1], [2]]
    for classes in ({"num_classes": 3}, {"classes": ("0", "1", "2"), "learned": True}):
        with pytest.raises(DataError, match=r"record 2 .*label 3 is outside 0\.\.2") as error:
            read(path, **classes)
        assert "the labels start at 1: set label_offset=1" in str(error.value)
    assert labels_of(read(path, classes=("1", "2", "3"), learned=True)) == [[0], [1], [2]]
    with pytest.raises(DataError, match=r"record 0 \(byte 0\): label 1 lies below the first class's number, 2"):
        read(path, label_offset=2)


def test_labels_as_texts(tmp_path):
    path = write_shard(tmp_path / "a.tfrecord", [example(0, ["dog", "cat"]), example(1, ["cat"])])
    records = read(path)
    assert records.class_names == ("cat", "dog") and labels_of(records) == [[1, 0], [0]]
    only_text = write_shard(tmp_path / "b.tfrecord", [example(0, [], ["dog"]), example(1, [], ["cat"])])
    assert labels_of(read(only_text)) == [[1], [0]]
    write_shard(tmp_path / "c.tfrecord", [example(0, [3])])
    with pytest.raises(DataError, match=r"c\.tfrecord: its labels are int64s, those of the files before strings"):
        read(tmp_path / "[ac].tfrecord")


def test_texts_that_do_not_go_with_the_labels_are_left_aside(tmp_path):
    path = write_shard(tmp_path / "a.tfrecord", [example(0, [0], ["cat"]), example(1, [1], ["cat"])])
    records = read(path)
    assert records.class_names == ("0", "1") and "do not go together one to one" in records.notes[0]
    path = write_shard(tmp_path / "b.tfrecord", [example(0, [0, 1], ["cat, dog"]), example(1, [1], ["dog"])])
    assert "not as many texts as labels" in read(path).notes[0]
    path = write_shard(tmp_path / "c.tfrecord", [example(0, [7, 3], ["dog", "cat"]), example(1, [7], ["cat"])])
    assert "do not go together one to one" in read(path).notes[0]


def test_own_keys(tmp_path):
    message = encode_example({"jpg": picture(4), "y": [1], "name": "cat"})
    records = read(
        write_shard(tmp_path / "a", [message]), image_key="jpg", label_key="y", text_key="name", format_key=None
    )
    assert read_image(records.uri(0)) == picture(4) and records.class_names == ("cat",)
    with pytest.raises(
        DataError, match=r"record 0 \(byte 0\): has no feature 'image/encoded'; it has jpg, name, y"
    ) as error:
        read(tmp_path / "a")
    assert "image_key" in error.value.remedy


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "m.pbtxt",
            "# a comment\nitem { id: 1 name: 'cat' }\nitem {\n  name: \"dog\"\n  id: 2\n  display_name: 'Dog'\n}\n",
        ),
        ("m.json", '{"1": "cat", "2": "Dog"}'),
        ("m.json", '{"cat": 1, "Dog": 2}'),
        ("m.json", '[{"id": 1, "name": "cat"}, {"id": 2, "name": "Dog"}]'),
        ("m.txt", "1: cat\n2: Dog\n"),
        ("m.txt", "1\tcat\n2\tDog\n"),
        ("m.txt", "cat\nDog\n"),
    ],
)
def test_label_maps(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    path = write_shard(tmp_path / "a.tfrecord", [example(0, [2], ["ignored"]), example(1, [1], ["ignored"])])
    numbered = text != "cat\nDog\n"
    label_offset = 0 if numbered else 1
    records = read(path, label_map=str(tmp_path / name), num_classes=2, label_offset=label_offset)
    assert records.class_names == ("cat", "Dog") and labels_of(records) == [[1], [0]] and not records.notes
    if numbered:
        with pytest.raises(SpecError, match="label_offset=1: has no effect"):
            read(path, label_map=str(tmp_path / name), num_classes=2, label_offset=1)


def test_label_maps_with_gaps(tmp_path):
    (tmp_path / "m.json").write_text('{"0": "a", "1": "b", "3": "d", "6": "g"}')
    path = write_shard(tmp_path / "a.tfrecord", [example(0, [3]), example(1, [6])])
    records = read(path, label_map=str(tmp_path / "m.json"))
    assert records.class_names == ("a", "b", "d", "g") and labels_of(records) == [[2], [3]]
    assert records.notes == (f"{tmp_path / 'm.json'}: no name for 2, 4, 5: the numbers behind move down",)
    padded = read(path, label_map=str(tmp_path / "m.json"), num_classes=7)
    assert labels_of(padded) == [[3], [6]] and padded.class_names[4] == "(unused 4)"
    with pytest.raises(
        DataError, match=r"names 4 classes, with numbers from 0 to 6 \(none for 2, 4, 5\), but num_classes=5"
    ):
        read(path, label_map=str(tmp_path / "m.json"), num_classes=5)
    write_shard(tmp_path / "b.tfrecord", [example(0, [3]), example(1, [2])])
    with pytest.raises(DataError, match=r"record 1 .*label 2 has no name in the label map"):
        read(tmp_path / "b.tfrecord", label_map=str(tmp_path / "m.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item { id: 1 name: 'a' }\nitem { id: 1 name: 'b' }", "1 is the number of 'a' and of 'b'"),
        ("item { id: 1 name: 'a' }\nitem { id: 2 name: 'a' }", "'a' is the name of 1 and of 2"),
        ("item { id: 1 }", "an item lacks its id or its name: id: 1"),
        ("item { id: one name: 'a' }", "is no label map in pbtxt"),
        ('{"a": ', "is no JSON"),
        ('{"a": {}, "b": []}', "has not the form"),
        ("{}", "names no class"),
    ],
)
def test_label_maps_that_are_wrong(tmp_path, text, message):
    (tmp_path / "m").write_text(text)
    path = write_shard(tmp_path / "a.tfrecord", [example(0, [0])])
    with pytest.raises(DataError, match=message):
        read(path, label_map=str(tmp_path / "m"))
    with pytest.raises(DataError, match="no such file"):
        read(path, label_map=str(tmp_path / "nothing"))


def test_classes_of_another_set_hold_for_this_one(tmp_path):
    train = read(write_shard(tmp_path / "a.tfrecord", [example(i, [i], [f"c{i}"]) for i in range(4)]))
    held = write_shard(tmp_path / "b.tfrecord", [example(9, [3], ["c3"]), example(8, [1], ["c1"])])
    assert labels_of(read(held, classes=train.class_names)) == [[3], [1]]
    bare = write_shard(tmp_path / "c.tfrecord", [example(9, [3]), example(8, [1])])
    assert labels_of(read(bare, classes=train.class_names)) == [[3], [1]]
    odd = write_shard(tmp_path / "d.tfrecord", [example(9, [7], ["c7"])])
    with pytest.raises(DataError, match=r"record 0 \(byte 0\): label 'c7' is not among the 4 classes"):
        read(odd, classes=train.class_names)


def test_bare_numbers_are_no_positions_among_a_models_classes(tmp_path):
    """Numbers from 1 on would each quietly mean the class behind."""
    (tmp_path / "map.json").write_text('{"1": "a", "2": "b", "3": "c"}')
    path = write_shard(tmp_path / "a.tfrecord", [example(i, [i + 1]) for i in range(3)])
    named = read(path, label_map=str(tmp_path / "map.json")).class_names
    held = write_shard(tmp_path / "b.tfrecord", [example(0, []), example(1, [1]), example(2, [2])])
    message = r"record 1 .*label 1 is a bare number, but the model's 3 classes have names \(a, b, c\)"
    with pytest.raises(DataError, match=message) as error:
        read(held, classes=named, learned=True, labelled=False)
    assert "set label_map=FILE for this source" in str(error.value)
    known = read(held, classes=named, learned=True, labelled=False, label_map=str(tmp_path / "map.json"))
    assert labels_of(known) == [[], [0], [1]]
    assert labels_of(read(held, classes=named, labelled=False)) == [[], [1], [2]]  # a list in the order of the labels
    assert labels_of(read(held, classes=read(path).class_names, learned=True, labelled=False)) == [[], [0], [1]]


def test_texts_of_a_part_say_nothing_where_the_classes_are_numbers(tmp_path):
    """As a whole texts and numbers did not go together; the few of a part happen to."""
    texts = ["cat", "cat", "dog"]
    train = read(write_shard(tmp_path / "a.tfrecord", [example(i, [i], [texts[i]]) for i in range(3)]))
    assert train.class_names == ("0", "1", "2")
    part = write_shard(tmp_path / "b.tfrecord", [example(3, [2], ["dog"]), example(4, [1], ["cat"])])
    records = read(part, classes=train.class_names, learned=True)
    assert labels_of(records) == [[2], [1]] and "left aside: the classes are numbers" in records.notes[0]
    # Digits have numbers for names.
    train = read(write_shard(tmp_path / "c.tfrecord", [example(i, [i + 1], [str(i)]) for i in range(3)]))
    part = write_shard(tmp_path / "d.tfrecord", [example(5, [3], ["2"])])
    assert labels_of(read(part, classes=train.class_names, learned=True)) == [[2]]


def test_bad_files_are_named_with_record_and_byte(tmp_path):
    one, two, three = (frame(example(i, [i])) for i in range(3))
    good, size, last = one + two + three, len(one), len(one + two)
    cases = {
        "cut": (good[:-7], rf"cut\.tfrecord: record 2, which begins at byte {last:,}: the file ends within it"),
        "crc": (
            good[: size + 99] + b"?" + good[size + 100 :],
            rf"record 1, which begins at byte {size:,}: its data does not",
        ),
        "empty": (b"", "is empty: not one record"),
        "gzip": (gzip.compress(good), r"is gzip-compressed.*(\n.*gzip -dc .*gzip\.tfrecord)"),
        "text": (b"a.jpg 1\nb.jpg 2\n", "is no TFRecord file, or its first record"),
        "jpeg": (picture(0), "is no TFRecord file"),
        "proto": (frame(b"\xff\xff"), r"record 0 \(byte 0\): is no tf\.train\.Example message"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / f"{name}.tfrecord").write_bytes(data)
        with pytest.raises(DataError, match=message):
            read(tmp_path / f"{name}.tfrecord")
    with pytest.raises(DataError, match=r"record 0 .*'image/format' says 'raw', which is no format"):
        raw = encode_example({"image/encoded": b"abc", "image/format": "raw", "image/class/label": [1]})
        read(write_shard(tmp_path / "raw", [raw]))


def test_addresses_that_name_nothing(tmp_path):
    write_shard(tmp_path / "train_0.tfrecord", [example(0, [0])])
    with pytest.raises(DataError, match=rf"no file matches; {tmp_path} holds 1 files, for example train_0\.tfrecord"):
        read(tmp_path / "trian_*.tfrecord")
    with pytest.raises(DataError, match="is no folder with files in it"):
        read(tmp_path / "absent" / "*.tfrecord")
    with pytest.raises(DataError, match="there is no such file"):
        read(tmp_path / "train_1.tfrecord")
    with pytest.raises(DataError, match=r"is a folder\n.*\*\.tfrecord"):
        read(tmp_path)
    (tmp_path / "b").mkdir()
    write_shard(tmp_path / "b" / "train_1.tfrecord", [example(0, [0])])
    assert len(read(f"{tmp_path}/?/train_[0-9].tfrecord")) == 1


def test_the_index_is_kept_and_follows_the_file(tmp_path, monkeypatch):
    path = write_shard(tmp_path / "a.tfrecord", [example(i, [i]) for i in range(3)])
    first = read(path)
    (kept,) = (tmp_path / "cache" / "tfrecord").iterdir()
    monkeypatch.setattr("kinsight.data.tfrecord.shard_index.read_frames", None)  # a second reading would fail
    assert read(path).uris.equals(first.uris)
    monkeypatch.undo()
    monkeypatch.setenv("KINSIGHT_CACHE", str(tmp_path / "cache"))
    write_shard(path, [example(i, [i]) for i in range(4)])
    assert len(read(path)) == 4
    kept.write_bytes(kept.read_bytes()[:50])  # a cache cut off is made anew
    write_shard(path, [example(i, [i]) for i in range(3)])
    assert len(read(path)) == 3
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "cache"] == ["a.tfrecord"]


@pytest.mark.parametrize("sidecar", ["good", "shifted", "short", "text"])
def test_an_index_beside_the_file_splits_it_where_it_fits(tmp_path, monkeypatch, capsys, sidecar):
    monkeypatch.setattr("kinsight.data.tfrecord.shard_index._PART_BYTES", 1000)
    messages = [example(i, [i]) for i in range(40)]
    path = write_shard(tmp_path / "a.tfrecord", messages)
    begin_N = np.cumsum([0, *(len(frame(message)) for message in messages)])
    rows = list(zip(begin_N[:-1].tolist(), np.diff(begin_N).tolist(), strict=True))
    if sidecar == "shifted":
        begins = [0, *(start + 5 for start, _ in rows[1:]), int(begin_N[-1])]
        rows = list(zip(begins[:-1], np.diff(begins).tolist(), strict=True))
    lines = {"short": rows[:-1], "text": [("a", "b")]}.get(sidecar, rows)
    (tmp_path / "a.idx").write_text("".join(f"{start} {length}\n" for start, length in lines))
    records = read(path)
    assert [read_image(records.uri(i)) for i in range(40)] == [picture(i) for i in range(40)]
    assert ("does not fit" in capsys.readouterr().err) == (sidecar != "good")


def test_a_long_last_record_beside_an_index(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("kinsight.data.tfrecord.shard_index._PART_BYTES", 1000)
    long = encode_example({"image/encoded": bytes(9000), "image/format": "jpeg", "image/class/label": [3]})
    messages = [*(example(i, [i]) for i in range(3)), long]
    path = write_shard(tmp_path / "a.tfrecord", messages)
    begin_N = np.cumsum([0, *(len(frame(message)) for message in messages)])
    rows = zip(begin_N[:-1].tolist(), np.diff(begin_N).tolist(), strict=True)
    (tmp_path / "a.idx").write_text("".join(f"{start} {length}\n" for start, length in rows))
    records = read(path)
    assert labels_of(records) == [[0], [1], [2], [3]] and read_image(records.uri(3)) == bytes(9000)
    assert "does not fit" not in capsys.readouterr().err


def test_a_loader_reads_the_images_of_shards(tmp_path):
    path = write_shard(tmp_path / "a.tfrecord", [example(i, [i % 2]) for i in range(12)])
    records, image = read(path), ImageSpec(image_size=16)
    for workers, cache in ((0, "none"), (2, "none"), (0, "memory")):
        with ImageLoader(records, image, workers=workers, cache=cache) as loader:
            batches = [batch.images_BCHW.float().mean((1, 2, 3)) for batch in loader.in_order(5)]
        means = np.concatenate([batch.numpy() for batch in batches])
        assert np.allclose(means, [20 * (i % 10) + 14.5 for i in range(12)], atol=3)


def test_a_shard_cut_off_after_it_was_indexed_breaks_its_images_only(tmp_path):
    path = write_shard(tmp_path / "a.tfrecord", [example(i, [i]) for i in range(4)])
    records = read(path)
    path.write_bytes(path.read_bytes()[:-100])
    with ImageLoader(records, ImageSpec(image_size=16)) as loader:
        assert sum(len(batch) for batch in loader.in_order(4)) == 3
    ((uri, reason),) = loader.broken
    assert uri.startswith(str(path)) and reason == "its file ends before it does"


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    path = write_shard(tmp_path / "a.tfrecord", [example(i, [i]) for i in range(4)])
    found = storage.stat(path)
    monkeypatch.setattr(
        "kinsight.data.tfrecord.shard_index.storage.stat", lambda address: found._replace(version="another")
    )
    shards = [find_shards(str(path))[0]._replace(version=found.version)]
    with pytest.raises(StorageError, match="changed while it was read"):
        index_shards(shards, Keys())
