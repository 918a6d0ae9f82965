"""Image lists: where the path ends, what the labels are, and what is said about a bad line."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinsight.data.records import Records
from kinsight.data.sources import image_list, lines
from kinsight.data.sources.image_list import format_line
from kinsight.data.sources.read import read_records
from kinsight.errors import DataError
from kinsight.specs.data import ImageList


def write(folder: Path, text: str | bytes, name: str = "train.txt") -> ImageList:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return ImageList(path=str(path))


def read(folder: Path, text: str | bytes, **settings) -> Records:
    return read_records(write(folder, text), **settings)


def named(records: Records) -> list[tuple[str, list[str]]]:
    """Paths relative to the list, and label names."""
    root = str(Path(records.source).parent) + "/"
    return [
        (records.uri(i).removeprefix(root), [records.class_names[label] for label in records.labels(i)])
        for i in range(len(records))
    ]


@pytest.mark.parametrize(
    ("line", "path", "labels"),
    [
        ("a.jpg 3", "a.jpg", ["3"]),
        ("a.jpg\t3", "a.jpg", ["3"]),
        ("a.jpg,3", "a.jpg", ["3"]),
        ("a.jpg, 3, 4", "a.jpg", ["3", "4"]),
        ("a.jpg   3 4  5", "a.jpg", ["3", "4", "5"]),
        ("a.jpg\t1,2", "a.jpg", ["1", "2"]),
        ("a.jpg 3 3 4", "a.jpg", ["3", "4"]),
        ("my photos/a b.JPG 3", "my photos/a b.JPG", ["3"]),
        ("my photos 7/a, b.jpeg 3", "my photos 7/a, b.jpeg", ["3"]),
        ("图片/猫 一.png 猫", "图片/猫 一.png", ["猫"]),
        ("a.jpg cat dog", "a.jpg", ["cat", "dog"]),
        ("a.jpg,New York", "a.jpg", ["New York"]),
        ("a.jpg\tNew York\tLos Angeles, CA", "a.jpg", ["New York", "Los Angeles, CA"]),
        ('"a b" cat', "a b", ["cat"]),
        ('"say ""hi"".jpg",3', 'say "hi".jpg', ["3"]),
        ('"a.jpg","New York"', "a.jpg", ["New York"]),
        ("x.jpg 1/b.jpg 5", "x.jpg 1/b.jpg", ["5"]),
        ("#1.jpg 5", "#1.jpg", ["5"]),
        ("./a.jpg 5", "a.jpg", ["5"]),
        # no image suffix
        ("frames/0001 7", "frames/0001", ["7"]),
        ("my frames/0001 7 8", "my frames/0001", ["7", "8"]),
        ("my frames/x,y 7", "my frames/x,y", ["7"]),
        ("my frames\tred car", "my frames", ["red car"]),
        ("my frames,red car", "my frames", ["red car"]),
        ("my frames cat", "my frames", ["cat"]),
        ("a.jpg?x=1 2", "a.jpg?x=1", ["2"]),
    ],
)
def test_a_line_splits_from_the_right(tmp_path: Path, line: str, path: str, labels: list[str]) -> None:
    assert named(read(tmp_path, line + "\n")) == [(path, labels)]


def test_mixed_separators_blank_lines_comments_bom_and_crlf(tmp_path: Path) -> None:
    text = "\ufeff# images of May\r\n\r\na.jpg 0\r\n  b c.png\t1 \r\n##\r\n# d.jpg 9\r\ne.webp,2"
    records = read(tmp_path, text)
    assert named(records) == [("a.jpg", ["0"]), ("b c.png", ["1"]), ("e.webp", ["2"])]
    assert [records.place(i).rpartition(":")[2] for i in range(3)] == ["3", "4", "7"]


def test_old_mac_line_ends(tmp_path: Path) -> None:
    assert len(read(tmp_path, "a.jpg 0\rb.jpg 1\r")) == 2


def test_absolute_paths_and_addresses_stay_and_relative_ones_start_at_root(tmp_path: Path) -> None:
    text = "a.jpg 0\n/abs/b.jpg 1\ns3://bucket/c d.jpg 0\noss://bkt.oss-cn-hangzhou.aliyuncs.com/e.jpg 1\n../f.jpg 0\n"
    source = write(tmp_path, text).model_copy(update={"root": "/data/set"})
    records = read_records(source)
    assert [records.uri(i) for i in range(5)] == [
        "/data/set/a.jpg",
        "/abs/b.jpg",
        "s3://bucket/c d.jpg",
        "oss://bkt.oss-cn-hangzhou.aliyuncs.com/e.jpg",
        "/data/set/../f.jpg",
    ]


@pytest.mark.parametrize(
    ("root", "path", "uri"),
    [
        ("s3://bucket/lists/", "a b.jpg", "s3://bucket/lists/a b.jpg"),
        ("s3://bucket", "猫.jpg", "s3://bucket/猫.jpg"),
        ("s3://bucket/lists/may", "../../images/a.jpg", "s3://bucket/images/a.jpg"),
        ("s3://bucket/lists/may", "./../images/a.jpg", "s3://bucket/lists/images/a.jpg"),
        ("https://host/set?token=1", "50%#1.jpg", "https://host/set/50%25%231.jpg"),
    ],
)
def test_remote_roots(tmp_path: Path, root: str, path: str, uri: str) -> None:
    source = write(tmp_path, f"{path} 0\n").model_copy(update={"root": root})
    assert read_records(source).uri(0) == uri


def test_a_path_cannot_climb_out_of_a_bucket(tmp_path: Path) -> None:
    source = write(tmp_path, "../../a.jpg 0\n").model_copy(update={"root": "s3://bucket/x"})
    with pytest.raises(ValueError, match="leaves bucket"):
        read_records(source)


def test_a_relative_list_gives_absolute_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.jpg 0\n")
    monkeypatch.chdir(tmp_path)
    assert read_records(ImageList(path="train.txt")).uri(0) == str(tmp_path / "a.jpg")


def test_blocks_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"目录/{i} x.jpg {i % 7} {i % 3 + 7}\n\n" for i in range(300)) + "last.jpg 0"
    whole = read(tmp_path, text)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 97)
    pieces = read(tmp_path, text)
    assert pieces.table.num_rows == 301
    assert pieces.table["uri"].num_chunks > 50
    assert pieces.table.combine_chunks().equals(whole.table.combine_chunks())
    assert pieces.fingerprint == whole.fingerprint


LETTERS = st.characters(codec="utf-8", exclude_characters="\n\r\0")


NUMBERS = st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True)


@given(st.lists(st.tuples(st.text(LETTERS, min_size=1), NUMBERS), min_size=1))
def test_any_path_survives_when_quoted(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    text = "".join(format_line(path, labels) + "\n" for path, labels in rows)
    folder = tmp_path_factory.mktemp("lists")
    records = read_records(write(folder, text).model_copy(update={"root": "s3://b/%"}), num_classes=10)
    for i, (path, labels) in enumerate(rows):
        # Addresses stay as they are, leading `./` and `../` are resolved: the rest is literal.
        if not path.startswith((".", "/", "~")) and "://" not in path:
            assert records.uri(i) == f"s3://b/%/{path}"
        assert records.labels(i) == labels


PLAIN = st.text(st.characters(codec="utf-8", exclude_characters='\n\r\0"#./~:\t\v\f'), min_size=1)


@given(
    st.lists(
        st.tuples(
            PLAIN.map(lambda text: "p" + text + ".jpg"),
            NUMBERS,
            st.sampled_from([" ", "\t", ",", ", ", "  "]),
        ),
        min_size=1,
    )
)
def test_unquoted_paths_with_an_image_suffix_survive(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    text = "".join(separator.join([path, *map(str, labels)]) + "\n" for path, labels, separator in rows)
    records = read_records(
        write(tmp_path_factory.mktemp("lists"), text).model_copy(update={"root": "/r"}), num_classes=10
    )
    assert [records.uri(i) for i in range(len(records))] == ["/r/" + path for path, _, _ in rows]
    assert [records.labels(i) for i in range(len(records))] == [labels for _, labels, _ in rows]


WORD = st.lists(st.sampled_from([*"ab.猫/#1-", ".jpg"]), min_size=1).map("".join)


@given(st.lists(st.tuples(WORD, st.text("ab猫12/-", min_size=1)), min_size=1), st.sampled_from(" \t,"))
def test_two_word_lines_split_as_the_rules_say(rows: list[tuple[str, str]], separator: str) -> None:
    text_N = pa.array([f"{path}{separator}{label}" for path, label in rows])
    quick = image_list._split_simple(text_N)
    assert quick is not None
    # The last line is no two words, so this block goes through the rules.
    by_rules = image_list.split_paths(pa.concat_arrays([text_N, pa.array(["x y z"])]))
    assert quick[0].to_pylist() == by_rules[0].to_pylist()[:-1]
    assert quick[1].to_pylist() == [rest.strip(" \t,") for rest in by_rules[1].to_pylist()[:-1]]


def test_repeated_lines_are_kept_and_said(tmp_path: Path) -> None:
    records = read(tmp_path, "a.jpg 0\na.jpg 0\nb.jpg 1\n")
    assert len(records) == 3
    assert "1 line repeats an image" in records.notes[0]


def test_unlabelled_lists_are_fine_where_no_labels_are_wanted(tmp_path: Path) -> None:
    records = read(tmp_path, "my photo.jpg\nb.jpg 4\n/c/d\n", labelled=False)
    assert named(records) == [("my photo.jpg", []), ("b.jpg", ["4"]), ("/c/d", [])]
    with pytest.raises(DataError, match="0 labels"):
        _ = records.label_N


BAD = {
    "empty": (b"", "is empty"),
    "only blank lines": (b"\n \n\t\r\n# nothing\n", "only blank lines"),
    "no label": (b"a.jpg 0\n\nmy b.jpg\n", "train.txt:3: no label follows the path 'my b.jpg'"),
    "not utf-8": ("a.jpg 0\n你好.jpg 1\n".encode("gbk"), "train.txt:2: is not UTF-8"),
    "utf-16": ("a.jpg 0\n".encode("utf-16"), "is UTF-16"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(100), "is a JPEG image, not a text file"),
    "parquet": (b"PAR1" + bytes(100), "set `format: parquet`"),
    "zeros": (b"a.jpg 0\n" * 1000 + b"\0", "train.txt:1001: holds zero bytes"),
    "json lines": (b'{"data": {"source": "a.jpg"}}\n', "set `format: itag`"),
    "sop": (b"image_id class_id super_class_id path\n1 1 1 a.jpg\n", "set `format: sop`"),
    "csv header": (b"image,label\na.jpg,0\n", "set `format: csv`"),
    "spaced header": (b"path label\na.jpg 0\n", "train.txt:1: is a header line"),
    "unknown header": (b"pic y\na.jpg 0\nb.jpg 1\n", "train.txt:1: label 'y' is no integer, but all others are"),
    "broken quotes": (b'a.jpg,"New, York"\n', "holds a quotation mark"),
    "negative": (b"a.jpg 0\nb.jpg -1\n", "train.txt:2: label -1 is negative"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lists_are_refused_with_place_and_remedy(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    assert message in str(caught.value)
    assert caught.value.remedy
    assert str(tmp_path / "train.txt") in str(caught.value.field)


def test_a_missing_list_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg 0\n")
    with pytest.raises(DataError, match=rf"trains.txt: there is no such list\n.*did you mean {tmp_path}/train.txt\?"):
        read_records(ImageList(path=str(tmp_path / "trains.txt")))


def test_a_directory_is_not_a_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="format: folder"):
        read_records(ImageList(path=str(tmp_path)))


def test_a_second_label_is_an_error_only_where_one_is_needed(tmp_path: Path) -> None:
    records = read(tmp_path, "a.jpg 0\nb.jpg 1 2\n")
    with pytest.raises(DataError, match=r"train.txt:2: has 2 labels \(1, 2\)"):
        _ = records.label_N
    offset_N1, label_M = records.labels_csr
    assert offset_N1.tolist() == [0, 1, 3]
    assert label_M.tolist() == [0, 1, 2]
    assert records.count_C.tolist() == [1, 1, 1]
    assert label_M.dtype == np.int64
