"""COCO's and VOC's annotations as labels of images."""

import json

import pytest

from kinsight.data import read_records
from kinsight.errors import DataError
from kinsight.specs.data import Coco, Voc

COCO = {
    "images": [{"id": 9, "file_name": "a.jpg"}, {"id": 4, "file_name": "sub/b.jpg"}, {"id": 5, "file_name": "c.jpg"}],
    "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}, {"id": 90, "name": "kite"}],
    "annotations": [
        {"image_id": 9, "category_id": 90},
        {"image_id": 9, "category_id": 3},
        {"image_id": 9, "category_id": 3},
        {"image_id": 4, "category_id": 1, "iscrowd": 1},
    ],
}


def coco(tmp_path, tree, **options):
    (tmp_path / "instances.json").write_text(json.dumps(tree))
    return read_records(Coco(path=str(tmp_path / "instances.json"), root="s3://b/train"), **options)


def test_coco(tmp_path):
    records = coco(tmp_path, COCO, labelled=False)
    assert records.class_names == ("cat", "dog", "kite")
    assert [records.labels(i) for i in range(3)] == [[1, 2], [0], []]
    assert records.uri(1) == "s3://b/train/sub/b.jpg"
    with pytest.raises(DataError, match=r"image c\.jpg: has no annotation \(1 such images\)"):
        coco(tmp_path, COCO)
    assert [coco(tmp_path, COCO, labelled=False, classes=["kite", "dog", "cat"]).labels(i) for i in (0, 1)] == [
        [1, 0],
        [2],
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": [{"image_id": 1, "category_id": 3}]}, "annotation 0: there is no image 1"),
        ({"annotations": [{"image_id": 9, "category_id": 2}]}, "annotation 0: there is no category 2"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "category .* missing, or another's"),
        ({"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}, "1 is the id of two images"),
        ({"images": []}, "names no image"),
        ({"images": [{"id": 1}]}, "image 0 lacks its id or file_name"),
        ({"annotations": None}, "has no list 'annotations'"),
        ({"images": ["a.jpg"]}, "entry 0 of 'images' is no object"),
        ({"annotations": [{"image_id": 9, "category_id": 3}, 7]}, "entry 1 of 'annotations' is no object"),
        ({"categories": [None]}, "entry 0 of 'categories' is no object"),
        ({"images": [{"id": [1], "file_name": "a"}]}, "image 0 lacks its id or file_name"),
        ({"annotations": [{"image_id": [9], "category_id": 3}]}, r"annotation 0: there is no image \[9\]"),
        ({"annotations": [{"image_id": 9, "category_id": {}}]}, r"annotation 0: there is no category \{\}"),
        ({"categories": [{"id": [1], "name": "a"}]}, "category .* missing, or another's"),
    ],
)
def test_coco_that_is_wrong(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        coco(tmp_path, COCO | change, labelled=False)


def annotation(objects, name="<filename>a.jpg</filename>"):
    inner = "".join(f"<object><name>{label}</name><difficult>{hard}</difficult></object>" for label, hard in objects)
    return f"<annotation>{name}{inner}</annotation>"


@pytest.fixture
def voc(tmp_path):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    for name, text in {
        "1": annotation([("cat", 0), ("cat", 1), ("dog", 1)]),
        "2": annotation([("dog", 0)], name=""),
        "3": annotation([("cat", 1)]),
    }.items():
        (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
    (tmp_path / "ImageSets/Main/val.txt").write_text("2\n1 -1\n")
    return tmp_path


def test_voc(voc):
    records = read_records(Voc(path=str(voc)), labelled=False)
    assert records.class_names == ("cat", "dog")
    assert [records.labels(i) for i in range(3)] == [[0], [1], []]
    assert records.table["unknown"].to_pylist() == [[1], [], [0]]
    assert [records.uri(i) for i in range(2)] == [f"{voc}/JPEGImages/a.jpg", f"{voc}/JPEGImages/2.jpg"]
    held = read_records(Voc(path=str(voc), split="val"), classes=["dog", "cat"])
    assert [held.labels(i) for i in range(2)] == [[0], [1]]
    with pytest.raises(DataError, match=r"3\.xml: shows no object, or only difficult ones"):
        read_records(Voc(path=str(voc)))


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        ("GBK", "gbk"),
        ("gb2312", "gbk"),
        ("Big5", "big5"),
        ("Shift_JIS", "shift_jis"),
        ("EUC-KR", "euc_kr"),
        ("UTF-16", "utf-16"),
    ],
)
def test_voc_in_other_encodings(voc, declared, codec):
    text = f"<?xml version='1.0' encoding='{declared}'?>" + annotation([("中", 0)], "<filename>中.jpg</filename>")
    (voc / "Annotations/2.xml").write_bytes(text.encode(codec))
    records = read_records(Voc(path=str(voc), split="val"), labelled=False)
    assert records.class_names == ("cat", "dog", "中") and records.labels(0) == [2]
    assert records.uri(0) == f"{voc}/JPEGImages/中.jpg"


def test_voc_in_no_encoding(voc):
    for declared, data, message in (
        ("klingon", b"<annotation/>", "says that it is encoded as klingon, and cannot be read so"),
        ("GBK", b"<annotation>\xff\xff</annotation>", "says that it is encoded as GBK, and cannot be read so"),
        ("GBK", b"<annotation>", "is no XML"),
        ("utf-7", b"+ADwAIQ-ENTITY x +ACIAeQAiAD4-", "defines entities"),
    ):
        text = f"<?xml version='1.0' encoding='{declared}'?>".encode() + data
        (voc / "Annotations/1.xml").write_bytes(text)
        with pytest.raises(DataError, match=message):
            read_records(Voc(path=str(voc)), labelled=False)
    hidden = "<?xml version='1.0' encoding='UTF-16'?><!DOCTYPE a [<!ENTITY x 'y'>]><annotation>&x;</annotation>"
    (voc / "Annotations/1.xml").write_bytes(hidden.encode("utf-16"))
    with pytest.raises(DataError, match="defines entities"):
        read_records(Voc(path=str(voc)), labelled=False)


def test_voc_that_is_wrong(voc):
    with pytest.raises(DataError, match=r"train\.txt: there is no such list"):
        read_records(Voc(path=str(voc), split="train"))
    with pytest.raises(DataError, match=r"JPEGImages: there is no such folder|Annotationen: there is no such folder"):
        read_records(Voc(path=str(voc), annotations="Annotationen"))
    (voc / "ImageSets/Main/val.txt").write_text("8\n")
    with pytest.raises(DataError, match=r"8\.xml: there is no such annotation"):
        read_records(Voc(path=str(voc), split="val"))
    for text, message in (
        ("<annotation>", "is no XML"),
        ("<annotation><object></object></annotation>", "an object has no name"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>', "defines entities"),
    ):
        (voc / "Annotations/1.xml").write_text(text)
        with pytest.raises(DataError, match=message):
            read_records(Voc(path=str(voc)), labelled=False)
