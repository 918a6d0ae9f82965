"""tf.train.Example messages, from a descriptor built here, so that nobody needs TensorFlow.

`Example {Features features = 1}`, `Features {map<string, Feature> feature = 1}`, `Feature {oneof: BytesList bytes_list
= 1, FloatList float_list = 2, Int64List int64_list = 3}`, each list `repeated value = 1`, numbers packed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from kinsight.data.tfrecord.wire import bytes_values, feature_spans, only_bytes, small_numbers

_PACKAGE = "kinsight.tfrecord"
_FIELD = descriptor_pb2.FieldDescriptorProto


def _message_classes() -> tuple[Any, ...]:
    file = descriptor_pb2.FileDescriptorProto(name="kinsight/tfrecord.proto", package=_PACKAGE, syntax="proto3")
    for name, kind in (
        ("BytesList", _FIELD.TYPE_BYTES),
        ("FloatList", _FIELD.TYPE_FLOAT),
        ("Int64List", _FIELD.TYPE_INT64),
    ):
        value = file.message_type.add(name=name).field.add(
            name="value", number=1, type=kind, label=_FIELD.LABEL_REPEATED
        )
        if kind != _FIELD.TYPE_BYTES:
            value.options.packed = True
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), 1):
        kind = name.title().replace("_", "")
        feature.field.add(
            name=name, number=number, type=_FIELD.TYPE_MESSAGE, label=_FIELD.LABEL_OPTIONAL,
            type_name=f".{_PACKAGE}.{kind}", oneof_index=0,
        )  # fmt: skip
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    for owner, name, number, label, kind in (
        (entry, "value", 2, _FIELD.LABEL_OPTIONAL, "Feature"),
        (features, "feature", 1, _FIELD.LABEL_REPEATED, "Features.FeatureEntry"),
        (file.message_type.add(name="Example"), "features", 1, _FIELD.LABEL_OPTIONAL, "Features"),
    ):
        owner.field.add(
            name=name, number=number, label=label, type=_FIELD.TYPE_MESSAGE, type_name=f".{_PACKAGE}.{kind}"
        )
    pool = descriptor_pool.DescriptorPool()  # its own: the default pool may hold another library's Example
    pool.Add(file)
    return tuple(
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in ("Example", "Feature")
    )


Example, Feature = _message_classes()
"""The message classes."""


@dataclass(frozen=True)
class Keys:
    """Names of the features to read; text and format may be None."""

    image: str = "image/encoded"
    label: str = "image/class/label"
    text: str | None = "image/class/text"
    format: str | None = "image/format"


class Sample(NamedTuple):
    """What an Example says of an image. offset, length: of the encoded image within the message.

    labels: numbers, or texts where the feature holds such. texts: class names. format: as it is written there.
    """

    offset: int
    length: int
    labels: list[int] | list[str]
    texts: list[str]
    format: str


def parse_example(data: bytes, keys: Keys) -> Sample:
    """Raises ValueError saying what is wrong with the message.

    Messages as all writers make them are read by walking over their fields, which leaves the image where it is; others
    by protobuf itself. Both give the same.
    """
    spans = feature_spans(data)
    if spans is not None and keys.image in spans and (image := only_bytes(data, spans[keys.image])) is not None:
        features = _Walked(data, spans)
        offset, length = image[0], image[1] - image[0]
    else:
        features = _Parsed(data)
        images = features.images(keys.image)
        offset, length = _place(data, images[0]), len(images[0])
    labels = _labels(features, keys.label)
    texts = _texts(features, keys.text) if keys.text is not None else []
    formats = _texts(features, keys.format) if keys.format is not None else []
    return Sample(offset, length, labels, texts, formats[0] if formats else "")


class _Walked:
    """Features that a walk has found."""

    def __init__(self, data: bytes, spans: Mapping[str, tuple[int, int]]) -> None:
        self._data, self._spans = data, spans

    def numbers(self, key: str) -> list[int]:
        """Whole numbers; none where the feature is absent or holds something else."""
        if (span := self._spans.get(key)) is None:
            return []
        if (found := small_numbers(self._data, span)) is not None:
            return found
        return _numbers(self._feature(span), key)

    def texts(self, key: str) -> Sequence[bytes]:
        """Values of bytes; none where the feature is absent or holds something else."""
        if (span := self._spans.get(key)) is None:
            return ()
        found = bytes_values(self._data, span)
        return self._feature(span).bytes_list.value if found is None else found

    def _feature(self, span: tuple[int, int]) -> Any:
        try:
            return Feature.FromString(self._data[slice(*span)])
        except message.DecodeError:
            raise _no_example() from None


class _Parsed:
    """Features that protobuf has read."""

    def __init__(self, data: bytes) -> None:
        try:
            self._features = Example.FromString(data).features.feature
        except message.DecodeError:
            raise _no_example() from None

    def images(self, key: str) -> Sequence[bytes]:
        """The one encoded image. Raises ValueError."""
        images = self._features[key].bytes_list.value if key in self._features else ()
        if len(images) != 1:
            raise ValueError(_no_image(self._features, key, len(images)))
        return images

    def numbers(self, key: str) -> list[int]:
        # Looking up a key that a map of messages lacks would add it.
        return _numbers(self._features[key], key) if key in self._features else []

    def texts(self, key: str) -> Sequence[bytes]:
        return self._features[key].bytes_list.value if key in self._features else ()


def _no_example() -> ValueError:
    return ValueError("is no tf.train.Example message")


def _numbers(feature: Any, key: str) -> list[int]:
    if feature.float_list.value:
        raise ValueError(f"feature {key!r} holds fractions; labels are whole numbers or texts")
    return list(feature.int64_list.value)


def _place(data: bytes, encoded: bytes) -> int:
    """Where `encoded` stands in `data`; searching for its beginning alone is quick."""
    offset = data.find(encoded[:64])
    while not data.startswith(encoded, offset):
        offset = data.find(encoded[:64], offset + 1)
    return offset


def _labels(features: "_Walked | _Parsed", key: str) -> list[int] | list[str]:
    return features.numbers(key) or _texts(features, key)


def _texts(features: "_Walked | _Parsed", key: str) -> list[str]:
    try:
        return [text for value in features.texts(key) if (text := value.decode().strip())]
    except UnicodeDecodeError:
        raise ValueError(f"feature {key!r} holds text that is not UTF-8") from None


def _no_image(features: Any, key: str, count: int) -> str:
    if key in features:
        found = f"{count} values" if count else f"{features[key].WhichOneof('kind') or 'no value'}"
        return f"feature {key!r} holds {found}, where one encoded image is needed"
    names = sorted(features)
    return (
        f"has no feature {key!r}; it has {', '.join(names[:12]) or 'none at all'}{', ...' if len(names) > 12 else ''}"
    )


def encode_example(features: Mapping[str, bytes | str | Sequence[int] | Sequence[str] | Sequence[float]]) -> bytes:
    """The message of these features: bytes or a text, or a list of texts, of whole numbers, of fractions.

    Equal features give equal bytes.
    """
    example = Example()
    feature = example.features.feature
    for key, value in features.items():
        if isinstance(value, bytes):
            feature[key].bytes_list.value.append(value)
        elif isinstance(value, str):
            feature[key].bytes_list.value.append(value.encode())
        elif value and isinstance(value[0], str):
            feature[key].bytes_list.value.extend(str(text).encode() for text in value)
        elif value and isinstance(value[0], float):
            feature[key].float_list.value.extend(float(number) for number in value)
        else:  # an empty list is one of numbers: that of an image without labels
            feature[key].int64_list.value.extend(int(number) for number in value)
            if not value:
                feature[key].int64_list.SetInParent()
    return example.SerializeToString(deterministic=True)
