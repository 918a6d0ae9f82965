"""iTAG manifests in every variant that exports take."""

import json
from pathlib import Path
from typing import Any

import pytest

from kinsight.data.records import Records
from kinsight.data.sources.read import read_records
from kinsight.errors import DataError
from kinsight.specs.data import Itag

OSS = "oss://bkt.oss-cn-hangzhou.aliyuncs.com/a/1.jpg"
JOB = "label-1435504604476547072"


def line(data: Any, *, source: str = OSS, **stages: Any) -> dict[str, Any]:
    results = {"results": [{"questionId": "4", "data": data, "markTitle": "Single-choice question"}]}
    return {"data": {"source": source}, JOB: results, **stages}


def answer(data: Any) -> dict[str, Any]:
    return {"results": [{"questionId": "1", "data": data, "type": "survey/value"}]}


def read(folder: Path, *lines: Any, **settings: Any) -> Records:
    path = folder / "train.manifest"
    texts = [entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False) for entry in lines]
    path.write_text("\n".join(texts) + "\n")
    return read_records(Itag(path=str(path)), **settings)


def names(records: Records, i: int = 0) -> list[str]:
    return [records.class_names[label] for label in records.labels(i)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("label2", ["label2"]),
        (" 标签2 ", ["标签2"]),
        (7, ["7"]),
        (["a", "b"], ["a", "b"]),
        ({"labels": {"单选": "猫"}}, ["猫"]),
        ({"labels": {"Single-choice": "cat"}}, ["cat"]),
        ({"labels": {"Single choice question": "cat"}}, ["cat"]),
        ({"labels": {"单选题": ["猫"]}}, ["猫"]),
        ({"labels": {"多选": ["猫", "狗"]}}, ["猫", "狗"]),
        ({"labels": {"Multiple-choice": ["cat", "dog"]}}, ["cat", "dog"]),
        ({"labels": {"Multi-choice": '["cat", "dog"]'}}, ["cat", "dog"]),
        ({"labels": {"Which fruit?": "apple"}}, ["apple"]),
        ({"labels": {"OCR识别结果": "理财顾问", "单选": "标签1"}}, ["标签1"]),
        ({"labels": "cat"}, ["cat"]),
        ({"labels": ["cat", "dog", "cat"]}, ["cat", "dog"]),
        ('{"labels": {"单选": "猫"}}', ["猫"]),
        ('{"labels": "{\\"Single-choice\\": [\\"cat\\"]}"}', ["cat"]),
        ('["cat", "dog"]', ["cat", "dog"]),
        ("[cat", ["[cat"]),
        ([{"labels": {"单选": "猫"}}], ["猫"]),
        ({"单选": "猫"}, ["猫"]),
    ],
)
def test_forms_of_an_answer(tmp_path: Path, data: Any, expected: list[str]) -> None:
    records = read(tmp_path, line(data))
    assert names(records) == expected
    assert records.uri(0) == OSS


def test_verify_goes_before_check_before_plain_whatever_their_order(tmp_path: Path) -> None:
    plain, check, verify = answer("plain"), answer("check"), answer("verify")
    records = read(
        tmp_path,
        {"data": {"source": OSS}, JOB: plain, f"{JOB}-check": check, f"{JOB}-verify": verify},
        {f"{JOB}-verify": verify, f"{JOB}-check": check, JOB: plain, "data": {"source": OSS}},
        {f"{JOB}-check": check, "data": {"source": OSS}, JOB: plain},
        {"data": {"source": OSS}, JOB: plain},
    )
    assert [names(records, i) for i in range(4)] == [["verify"], ["verify"], ["check"], ["plain"]]


def test_a_stage_without_an_answer_leaves_the_one_before(tmp_path: Path) -> None:
    for empty in ({"results": []}, {"results": None}, answer(None), answer(""), None):
        records = read(tmp_path, {"data": {"source": OSS}, JOB: answer("a"), f"{JOB}-verify": empty})
        assert names(records) == ["a"]


def test_of_several_jobs_the_last_counts(tmp_path: Path) -> None:
    records = read(tmp_path, {"data": {"source": OSS}, "label-1": answer("old"), "label-2": answer("new")})
    assert names(records) == ["new"]


def test_choices_count_beside_regions_and_free_text(tmp_path: Path) -> None:
    region = {"id": "e07", "type": "image/polygon", "value": [[1.0, 2.0]], "labels": {"boundingbox": "Label 2"}}
    results = [
        {"questionId": "1", "data": [region], "markTitle": "Selection box-IMG-3", "type": "image"},
        {"objects": [{"result": {"NER": ["Label 7"]}}], "empty": False},
        {"questionId": "3", "data": "free text", "markTitle": "Text content", "type": "survey/value"},
        {"questionId": "4", "data": "Label 222", "markTitle": "单选题", "type": "survey/value"},
    ]
    assert names(read(tmp_path, {"data": {"source": OSS}, JOB: {"results": results}})) == ["Label 222"]


def test_addresses_stay_in_both_forms_and_plain_paths_start_at_the_manifest(tmp_path: Path) -> None:
    records = read(tmp_path, line("a", source="oss://bkt/a/1.jpg"), line("a"), line("b", source="图/2 x.jpg"))
    assert [records.uri(i) for i in range(3)] == ["oss://bkt/a/1.jpg", OSS, str(tmp_path / "图/2 x.jpg")]


def test_where_the_image_may_stand(tmp_path: Path) -> None:
    custom = {"data": {"picture_url": OSS, "text": "Some words."}, JOB: answer("a")}
    encoded = {"data": json.dumps({"source": "b.jpg"}), JOB: json.dumps(answer("b"))}
    records = read(tmp_path, custom, encoded)
    assert [records.uri(0), records.uri(1)] == [OSS, str(tmp_path / "b.jpg")]
    with pytest.raises(DataError, match=r"train.manifest:1: `data` holds no `source`, and 2 fields"):
        read(tmp_path, {"data": {"a": "1.jpg", "b": "2.jpg"}, JOB: answer("a")})
    with pytest.raises(DataError, match="has no `data`"):
        read(tmp_path, {JOB: answer("a")})


def test_lines_without_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    bare = {"data": {"source": "b.jpg"}}
    records = read(tmp_path, line("a"), bare, line("b"))
    assert (len(records), records.place(1).rpartition(":")[2]) == (2, "3")
    assert records.notes[0] == "1 of 3 lines have no label and were left out"
    assert len(read(tmp_path, line("a"), bare, labelled=False)) == 2
    with pytest.raises(DataError, match="none of its 2 lines holds a label"):
        read(tmp_path, bare, bare)


def test_names_are_numbered_in_order_and_class_lists_hold(tmp_path: Path) -> None:
    entries = [line("dog"), line("cat"), line("dog")]
    assert read(tmp_path, *entries).label_N.tolist() == [1, 0, 1]
    assert read(tmp_path, *entries, classes=["dog", "cat"]).label_N.tolist() == [0, 1, 0]
    with pytest.raises(DataError, match=r"train.manifest:2: label 'cat' is not among"):
        read(tmp_path, *entries, classes=["dog", "cow"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("a.jpg 3", "set `format: image-list`"),
        ("image_id class_id super_class_id path", "set `format: sop`"),
        ('{"data": ', "one JSON object a line"),
        ("[1, 2]", "is not a JSON object"),
        ({"data": {"source": OSS}, JOB: {"results": "x"}}, "`results` is str"),
        (line({"labels": {"color": "red", "shape": "round"}}), "which of the questions color, shape"),
        (line(1.5), "label 1.5 is neither text nor an integer"),
        ("[" * 100_000, "is not a JSON object"),
    ],
)
def test_bad_manifests(tmp_path: Path, entry: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, line("a"), entry)
    assert message in str(caught.value)
    assert str(caught.value.field).endswith("train.manifest:2")
    assert caught.value.remedy
