"""EasyVision's label files: as documented, as misprinted there, and as spreadsheets quote them."""

import pytest

from kinsight.data import read_records
from kinsight.errors import DataError
from kinsight.specs.data import EasyVisionCsv


def read(tmp_path, text, **options):
    (tmp_path / "labels.csv").write_text(text)
    source = EasyVisionCsv(path=str(tmp_path / "labels.csv"), root=options.pop("root", None))
    return read_records(source, **options)


def named(records):
    names = records.class_names
    return [(records.uri(i), [names[label] for label in records.labels(i)]) for i in range(len(records))]


@pytest.mark.parametrize(
    ("line", "labels", "repaired"),
    [
        ('1,{"url":"oss://b/a.jpg"},{"option":"Passport"}', ["Passport"], False),
        ('1, {"url": "oss://b/a.jpg"} , {"option": ["Passport", "ID card"]}', ["Passport", "ID card"], False),
        ('1,{"url":"oss://b/a.jpg"},"{"option":"Passport"}', ["Passport"], True),
        ('1,{"url":"oss://b/a.jpg"},"{"option":"Passport"}"', ["Passport"], True),
        ('1,"{"url":"oss://b/a.jpg"}","{"option":["A","B"]}"', ["A", "B"], True),
        ('1,{"url":"oss://b/a.jpg"},{["option":"A", "option":"B"]}', ["A", "B"], True),
        ('1,{"url":"oss://b/a.jpg"},[{"option":"A"},{"option":"B"}]', ["A", "B"], False),
        ('1,{"url":"oss://b/a.jpg"},{"option":"A","option":"B"}', ["A", "B"], True),
        ('1,{"url":"oss://b/a.jpg"},{"option":[A, B c]}', ["A", "B c"], True),
        ('1,"{""url"":""oss://b/a.jpg""}","{""option"":""Pass, port""}"', ["Pass, port"], False),
        ('{"url":"oss://b/a.jpg"},{"option":"A"}', ["A"], False),
        ('7,{"url":"oss://b/a.jpg"},{"option":"say \\"hi\\", 你好"}', ['say "hi", 你好'], False),
        ('1,{"url":"oss://b/a.jpg"},{"option":["A","A"]}', ["A"], False),
        ('1,{"url":"oss://b/a.jpg"},{"option":3}', ["3"], False),
    ],
)
def test_every_form_of_a_line(tmp_path, line, labels, repaired):
    records = read(tmp_path, line + "\n")
    assert records.uri(0) == "oss://b/a.jpg" and set(named(records)[0][1]) == set(labels)
    assert ("read for what they mean" in "".join(records.notes)) == repaired


def test_headers_relative_addresses_and_missing_answers(tmp_path):
    text = 'id,url,result\n1,{"url":"x/a.jpg"},{"option":"A"}\n\n2,{"url":"b.jpg"},{"option":[]}\n3,{"url":"c.jpg"}\n'
    assert named(read(tmp_path, text, root="oss://bucket/in", labelled=False)) == [
        ("oss://bucket/in/x/a.jpg", ["A"]),
        ("oss://bucket/in/b.jpg", []),
        ("oss://bucket/in/c.jpg", []),
    ]
    with pytest.raises(DataError, match=r"labels\.csv:4: no option was chosen"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,oss://b/a.jpg,Passport", 'there is no {"url": ...}'),
        ('1,{"uri":"oss://b/a.jpg"},{"option":"A"}', "no address of an image under 'url'"),
        ('1,{"url":"oss://b/a.jpg"},{"answer":"A"}', "cannot tell the labels from"),
        ('1,{"url":"oss://b/a.jpg"},Passport', "cannot tell the labels from 'Passport'"),
    ],
)
def test_lines_that_say_nothing(tmp_path, line, message):
    with pytest.raises(DataError, match=message.replace("{", r"\{").replace(".", r"\.")):
        read(tmp_path, '1,{"url":"oss://b/0.jpg"},{"option":"A"}\n' + line)
