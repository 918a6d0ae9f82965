"""TFRecord framing and Example messages against other implementations of the same, and against damage."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tfrecord import example_pb2
from tfrecord.reader import tfrecord_iterator
from tfrecord.writer import TFRecordWriter

from kinsight.data.tfrecord import Example, Keys, encode_example, frame, parse_example, read_frames
from kinsight.data.tfrecord.framing import masked_crc
from kinsight.data.tfrecord.wire import feature_spans
from kinsight.errors import DataError

KEYS = Keys()


def frames(data, **options):
    def read(start, length):
        return data[start : start + length]

    return list(read_frames(read, "a.tfrecord", stop=len(data), **options))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=300), max_size=12), st.integers(1, 400))
def test_frames_come_back_whatever_the_chunks(payloads, chunk_bytes):
    data = b"".join(map(frame, payloads))
    found = frames(data, chunk_bytes=chunk_bytes)
    assert [payload for _, payload in found] == payloads
    assert all(data[at : at + len(payload)] == payload for at, payload in found)


def test_frames_are_those_of_another_writer_and_reader(tmp_path):
    writer = TFRecordWriter(str(tmp_path / "theirs"))
    features = {"image/encoded": (b"\xff\xd8abc", "byte"), "image/class/label": ([3, 5], "int")}
    writer.write(features)
    writer.close()
    ((_, message),) = frames((tmp_path / "theirs").read_bytes())
    assert parse_example(message, KEYS).labels == [3, 5]
    ours = frame(encode_example({"image/encoded": b"\xff\xd8abc", "image/class/label": [3, 5]}))
    (tmp_path / "ours").write_bytes(ours)
    (record,) = (bytes(each) for each in tfrecord_iterator(str(tmp_path / "ours")))
    theirs = example_pb2.Example.FromString(record)
    assert theirs.features.feature["image/class/label"].int64_list.value == [3, 5]


def test_every_flipped_bit_is_found():
    data = bytearray(frame(b"hello world") + frame(b"second"))
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= 1 << place % 8
        with pytest.raises(DataError, match=r"a\.tfrecord"):
            frames(bytes(broken))


def test_every_truncation_is_found():
    one = frame(b"hello world")
    for length in range(1, len(one) * 2):
        if length != len(one):
            number = length // len(one)
            with pytest.raises(
                DataError, match=rf"record {number}, which begins at byte {number * len(one)}: the file ends"
            ):
                frames((one * 2)[:length])


def test_a_huge_length_asks_for_no_memory():
    length = struct.pack("<Q", 1 << 60)
    with pytest.raises(DataError, match="the file ends within it"):
        frames(length + struct.pack("<I", masked_crc(length)) + b"abc")


names = st.sampled_from(["image/encoded", "image/class/label", "image/class/text", "image/format", "other", "é"])
values = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=10),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6),
    st.lists(st.integers(0, 200), max_size=6),
    st.lists(st.text(max_size=5), min_size=1, max_size=4),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=3),
)


def by_protobuf(message, keys):
    """What a message says, or the beginning of why it says nothing: no walk over the fields."""
    features = Example.FromString(message).features.feature
    image = features[keys.image].bytes_list.value if keys.image in features else []
    if len(image) != 1:
        return "error"
    label = features[keys.label] if keys.label in features else None  # noqa: SIM401 - get would add it
    if label is not None and label.float_list.value:
        return "error"
    try:
        texts = [
            [text for value in features[key].bytes_list.value if (text := value.decode().strip())]
            if key in features
            else []
            for key in (keys.label, keys.text, keys.format)
        ]
    except UnicodeDecodeError:
        return "error"
    numbers = list(label.int64_list.value) if label is not None else []
    return image[0], numbers or texts[0], texts[1], texts[2][0] if texts[2] else ""


def by_us(message, keys):
    try:
        found = parse_example(message, keys)
    except ValueError:
        return "error"
    return message[found.offset : found.offset + found.length], found.labels, found.texts, found.format


@settings(deadline=None, max_examples=400)
@given(st.dictionaries(names, values, max_size=6), st.randoms(use_true_random=False))
def test_the_walk_says_what_protobuf_says(features, random):
    message = encode_example(features)
    spans = feature_spans(message)
    assert spans is not None or not features  # ours are written in the form that is walked over
    assert by_us(message, KEYS) == by_protobuf(message, KEYS)
    # Other forms of the same: two messages one after the other merge, the later of equal keys counts.
    doubled = message + encode_example({"image/format": "png", "image/class/label": [7]})
    assert by_us(doubled, KEYS) == by_protobuf(doubled, KEYS)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(names, values, min_size=1, max_size=4), st.data())
def test_damaged_messages_never_disagree(features, data):
    message = bytearray(encode_example(features))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    message = bytes(message)
    try:
        wanted = by_protobuf(message, KEYS)
    except Exception:
        wanted = "error"
    found = by_us(message, KEYS)
    assert found == wanted or (found != "error" and wanted == "error" and _only_other_features_are_bad(message))


def _only_other_features_are_bad(message):
    """A walk does not look into features that nobody asked for."""
    return feature_spans(message) is not None


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"image/encoded": b""} | {"a": b""}, None),
        ({"img": b"x", "label": [1]}, "has no feature 'image/encoded'; it has img, label"),
        ({"image/encoded": ["a", "b"]}, "holds 2 values, where one encoded image is needed"),
        ({"image/encoded": [1]}, "holds int64_list, where one"),
        ({"image/encoded": b"x", "image/class/label": [0.5]}, "'image/class/label' holds fractions"),
    ],
)
def test_what_is_wrong_with_a_message_is_said(features, message):
    if message is None:
        assert parse_example(encode_example(features), KEYS).length == 0
        return
    with pytest.raises(ValueError, match=message):
        parse_example(encode_example(features), KEYS)


def test_no_example_at_all():
    with pytest.raises(ValueError, match=r"is no tf\.train\.Example"):
        parse_example(b"\xff\xff\xff", KEYS)


def test_an_image_that_occurs_twice_is_found_where_it_equals():
    image = np.random.default_rng(0).bytes(100)
    message = encode_example({"a": image, "image/encoded": image}) + b""
    found = parse_example(message, KEYS)
    assert message[found.offset : found.offset + found.length] == image
