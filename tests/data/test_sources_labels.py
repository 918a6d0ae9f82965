"""Labels become class numbers: every vocabulary, every refusal."""

from pathlib import Path

import pytest

from kinsight.data.class_names import read_class_names
from kinsight.data.labels import natural_key
from kinsight.data.records import Records
from kinsight.data.sources.read import read_records
from kinsight.errors import DataError, KinsightError
from kinsight.specs.data import ImageList


def read(folder: Path, labels: list, **settings) -> Records:
    path = folder / "train.txt"
    path.write_text("".join(f"{i}.jpg\t{label}\n" for i, label in enumerate(labels)))
    return read_records(ImageList(path=str(path)), **settings)


@pytest.mark.parametrize(
    ("labels", "settings", "numbers", "names"),
    [
        ([0, 2, 1, 0], {}, [0, 2, 1, 0], ("0", "1", "2")),
        ([1, 3, 2], {}, [0, 2, 1], ("1", "2", "3")),
        ([11319, 7, 500], {}, [2, 0, 1], ("7", "500", "11319")),
        (["007", "7", "0"], {}, [1, 1, 0], ("0", "7")),
        (["dog", "cat", "dog"], {}, [1, 0, 1], ("cat", "dog")),
        (["img10", "img9"], {}, [1, 0], ("img9", "img10")),
        ([3, "cat"], {}, [0, 1], ("3", "cat")),
        ([2**40, 5], {}, [1, 0], ("5", str(2**40))),
        ([0, 2], {"num_classes": 4}, [0, 2], ("0", "1", "2", "3")),
        (["b", "a"], {"num_classes": 3}, [1, 0], ("a", "b", "(unused 2)")),
        (["dog", "cat"], {"classes": ["dog", "bird", "cat"]}, [0, 2], ("dog", "bird", "cat")),
        ([2, 0], {"classes": ["dog", "bird", "cat"]}, [2, 0], ("dog", "bird", "cat")),
        (["New York"], {"classes": ["Paris", "New York"]}, [1], ("Paris", "New York")),
        (["7", "cat"], {"classes": ["cat", "7"]}, [1, 0], ("cat", "7")),
        ([3, 2], {"classes": ["2", "3"]}, [1, 0], ("2", "3")),
        ([5, 900], {"own_vocabulary": True, "num_classes": 2, "classes": ["a", "b"]}, [0, 1], ("5", "900")),
        (["x", "y"], {"own_vocabulary": True, "num_classes": 1}, [0, 1], ("x", "y")),
    ],
)
def test_numbering(tmp_path: Path, labels: list, settings: dict, numbers: list, names: tuple) -> None:
    records = read(tmp_path, labels, **settings)
    assert records.label_N.tolist() == numbers
    assert records.class_names == names
    assert records.num_classes == len(names)


def test_renumbering_is_said(tmp_path: Path) -> None:
    assert "labels 1..3 (3 different ones) are numbered 0..2" in read(tmp_path, [1, 2, 3]).notes[0]
    assert read(tmp_path, [0, 1]).notes == ()
    assert "1 of the 2 different labels are integers" in read(tmp_path, [3, "cat"]).notes[0]


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        ([0, 1, 5, 9], {"num_classes": 5}, "train.txt:3: label 5 is outside 0..4"),
        ([0, 1, 5], {"num_classes": 5}, "set num_classes to at least 6"),
        ([1, 2, 3], {"num_classes": 3}, "the labels start at 1"),
        ([0, 5], {"num_classes": 5, "own_vocabulary": False}, "train.txt:2"),
        ([0, -1], {}, "train.txt:2: label -1 is negative"),
        ([0, -1], {"num_classes": 3}, "train.txt:2: label -1 is negative"),
        ([0, -1], {"own_vocabulary": True}, "train.txt:2: label -1 is negative"),
        ([0, -1], {"classes": ["a", "b"]}, "train.txt:2: label -1 is negative"),
        (["a", "b", "a", "c"], {"num_classes": 2}, "train.txt:4: label 'c' is class number 3, but num_classes=2"),
        (["dog", "catt"], {"classes": ["dog", "cat"]}, "train.txt:2: label 'catt' is not among the 2 classes"),
        (["catt"], {"classes": ["dog", "cat"]}, "the nearest class is 'cat'"),
        (["zebra"], {"classes": ["dog", "cat"]}, "the first classes are dog, cat"),
        (["dog", 2], {"classes": ["dog", "cat"]}, "train.txt:2: label '2' is not among"),
        ([0, 2], {"classes": ["a", "b"]}, "train.txt:2: label 2 is outside 0..1 (the class list allows 2"),
        ([1, 0], {"classes": ["1", "2", "3"]}, "train.txt:2: label '0' is not among"),
        ([0], {"classes": ["a", "b"], "num_classes": 3}, "num_classes=3, but the class list has 2 names"),
    ],
)
def test_refusals(tmp_path: Path, labels: list, settings: dict, message: str) -> None:
    with pytest.raises(KinsightError) as caught:
        read(tmp_path, labels, **settings)
    assert message in str(caught.value)
    assert caught.value.remedy


def test_a_validation_set_reads_with_the_training_set_s_names(tmp_path: Path) -> None:
    train = read(tmp_path, [10, 30, 20])
    assert read(tmp_path, [30, 10], classes=train.class_names).label_N.tolist() == [2, 0]
    with pytest.raises(DataError, match="label '1' is not among"):
        read(tmp_path, [1, 30], classes=train.class_names)


@pytest.mark.parametrize(
    "content",
    ["cat\ndog\nNew York, NY\n", "\ufeffcat\r\n\r\ndog,\r\n'New York, NY'\r\n", 'cat, dog, "New York, NY"\n',
     '[cat, dog, "New York, NY"]', "[\n'cat',\n'dog',\n'New York, NY'\n]\n"],
)  # fmt: skip
def test_class_list_files(tmp_path: Path, content: str) -> None:
    (tmp_path / "names.txt").write_bytes(content.encode())
    assert read_class_names(str(tmp_path / "names.txt")) == ["cat", "dog", "New York, NY"]


def test_class_lists_given_inline() -> None:
    assert read_class_names("[a, b c ,d]") == ["a", "b c", "d"]
    assert read_class_names(["a", "b"]) == ["a", "b"]
    assert read_class_names("[猫,狗]") == ["猫", "狗"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [("[]", "no class name"), ([], "no class name"), ("[a,,b]", "class 1 has an empty name"),
     (["a", "b", "a"], "'a' is the name of class 0 and of class 2")],
)  # fmt: skip
def test_bad_class_lists(classes: str | list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_class_names(classes)


def test_natural_order() -> None:
    names = ["b2", "b10", "10", "9", "a", "01", "1", "猫10", "猫9", "", "b"]
    assert sorted(names, key=natural_key) == ["", "01", "1", "9", "10", "a", "b", "b2", "b10", "猫9", "猫10"]
