"""Folders: class = relative directory, in an order that is the same everywhere."""

import shutil
import zipfile
from pathlib import Path

import pytest

from kinsight.data.sources.read import read_records
from kinsight.errors import DataError
from kinsight.specs.data import Folder, ImageList

DATA = Path(__file__).resolve().parents[2] / "../shared/data"


def fill(folder: Path, *names: str) -> Folder:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return Folder(path=str(folder))


def test_classes_are_directories_in_natural_order(tmp_path: Path) -> None:
    source = fill(tmp_path, "c10/b.jpg", "c9/img10.PNG", "c9/img9.png", "水果/苹果/一 个.jpeg", "a b/x.webp")
    records = read_records(source)
    assert records.class_names == ("a b", "c9", "c10", "水果/苹果")
    relative = [records.uri(i).removeprefix(f"{tmp_path}/") for i in range(len(records))]
    assert relative == ["a b/x.webp", "c9/img9.png", "c9/img10.PNG", "c10/b.jpg", "水果/苹果/一 个.jpeg"]
    assert records.label_N.tolist() == [0, 1, 1, 2, 3]


def test_class_names_stay_names_even_when_they_are_digits(tmp_path: Path) -> None:
    records = read_records(fill(tmp_path, "1/a.jpg", "2/a.jpg", "10/a.jpg"))
    assert records.class_names == ("1", "2", "10")
    assert records.notes == ()


def test_hidden_files_and_other_suffixes_are_skipped_and_said(tmp_path: Path) -> None:
    source = fill(tmp_path, "a/1.jpg", "a/.2.jpg", ".b/3.jpg", "__MACOSX/a/1.jpg", "a/notes.txt", "b/x.json", "README")
    records = read_records(source)
    assert len(records) == 1
    assert records.notes[0].startswith("3 files are not named like images")


def test_a_class_list_decides_the_numbers(tmp_path: Path) -> None:
    source = fill(tmp_path, "cat/1.jpg", "dog/1.jpg")
    assert read_records(source, classes=["dog", "bird", "cat"]).label_N.tolist() == [2, 0]
    with pytest.raises(DataError, match=r"dog/1.jpg: label 'dog' is not among"):
        read_records(source, classes=["cat", "bird"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.jpg", "b.jpg"], "all images lie directly in the folder"),
        (["a.jpg", "c/b.jpg"], "a.jpg lies outside the class folders"),
        (["c/b.txt"], "holds no image"),
        ([], "holds no image"),
    ],
)
def test_folders_without_classes_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_records(fill(tmp_path, *names))


def test_stray_images_are_fine_where_no_labels_are_wanted(tmp_path: Path) -> None:
    records = read_records(fill(tmp_path, "a.jpg", "c/b.jpg"), labelled=False)
    assert [records.labels(i) for i in range(2)] == [[], [0]]


def test_missing_folder_and_file_instead(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        read_records(Folder(path=str(tmp_path / "none")))
    (tmp_path / "list.txt").write_text("a.jpg 0\n")
    with pytest.raises(DataError, match="is a file where a folder"):
        read_records(Folder(path=str(tmp_path / "list.txt")))


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg")
    try:
        (tmp_path / "a/\udcff.jpg").write_bytes(b"x")
    except OSError:
        pytest.skip("this file system refuses such names")
    with pytest.raises(DataError, match="is not UTF-8"):
        read_records(Folder(path=str(tmp_path)))


@pytest.mark.skipif(not (DATA / "clothing400.zip").is_file(), reason="the clothing set is not here")
def test_the_clothing_set_is_the_same_as_folder_and_as_list(tmp_path: Path) -> None:
    with zipfile.ZipFile(DATA / "clothing400.zip") as archive:
        names = [name for name in archive.namelist() if name.startswith("test/") and name.endswith(".jpg")]
        for name in names:
            archive.extract(name, tmp_path)
    folder = read_records(Folder(path=str(tmp_path / "test")))
    assert (len(folder), folder.num_classes) == (len(names), 10)
    lines = [f"{folder.uri(i)}\t{folder.class_names[folder.label_N[i]]}\n" for i in range(len(folder))]
    (tmp_path / "list.txt").write_text("".join(lines))
    assert read_records(ImageList(path=str(tmp_path / "list.txt"))).fingerprint == folder.fingerprint
    shutil.rmtree(tmp_path / "test")
