"""A walk over the wire format of tf.train.Example, which finds features without copying them.

Only messages in the one form that writers use are walked over: one field `features`, in it nothing but entries of a key
followed by a value, no key twice. All others are left to protobuf.
"""

_FIRST, _SECOND, _THIRD = 0x0A, 0x12, 0x1A  # tags of fields 1, 2, 3 that have a length


def feature_spans(data: bytes) -> dict[str, tuple[int, int]] | None:
    """Name -> (start, stop) of its Feature message within `data`; None if the message has another form."""
    try:
        return _spans(data)
    except (IndexError, UnicodeDecodeError):
        return None


def only_bytes(data: bytes, span: tuple[int, int]) -> tuple[int, int] | None:
    """(start, stop) of the only value of a Feature that is a list of bytes; None if it is not just that."""
    try:
        inner = _within(data, span, _FIRST)
        return None if inner is None else _within(data, inner, _FIRST)
    except IndexError:
        return None


def bytes_values(data: bytes, span: tuple[int, int]) -> list[bytes] | None:
    """The values of a Feature that is a list of bytes; None if it is something else, or written otherwise."""
    values: list[bytes] = []
    try:
        if (inner := _within(data, span, _FIRST)) is None:
            return None
        at, stop = inner
        while at < stop:
            if data[at] != _FIRST:
                return None
            at, size = _length(data, at + 1)
            values.append(data[at : at + size])
            at += size
    except IndexError:
        return None
    return values if at == stop else None


def small_numbers(data: bytes, span: tuple[int, int]) -> list[int] | None:
    """The values of a Feature that is a list of numbers from 0 to 127; None if it is something else."""
    try:
        if (inner := _within(data, span, _THIRD)) is None or (packed := _within(data, inner, _FIRST)) is None:
            return None
    except IndexError:
        return None
    numbers = data[packed[0] : packed[1]]
    return list(numbers) if not numbers or max(numbers) < 0x80 else None


def _within(data: bytes, span: tuple[int, int], tag: int) -> tuple[int, int] | None:
    """What a field of this tag holds, if it fills the span."""
    start, stop = span
    if stop - start < 2 or data[start] != tag:
        return None
    at, size = _length(data, start + 1)
    return (at, stop) if at + size == stop else None


def _spans(data: bytes) -> dict[str, tuple[int, int]] | None:
    end = len(data)
    if not end or data[0] != _FIRST:
        return None
    at, size = _length(data, 1)
    if at + size != end:
        return None
    spans: dict[str, tuple[int, int]] = {}
    while at < end:
        if data[at] != _FIRST:
            return None
        # Lengths below 128 are one byte; a call for each would double the time.
        if (size := data[at + 1]) < 0x80:
            at += 2
        else:
            at, size = _length(data, at + 1)
        stop = at + size
        size = data[at + 1]
        value_at = at + 2 + size
        if stop > end or size >= 0x80 or data[at] != _FIRST or data[value_at] != _SECOND:
            return None
        key = data[at + 2 : value_at].decode()
        if (size := data[value_at + 1]) < 0x80:
            at = value_at + 2
        else:
            at, size = _length(data, value_at + 1)
        if at + size != stop or key in spans:
            return None
        spans[key] = (at, stop)
        at = stop
    return spans


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Where a length that is written at `at` ends, and its value."""
    value = data[at]
    if value < 0x80:
        return at + 1, value
    value &= 0x7F
    for shift in range(7, 64, 7):
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return at + 1, value
    raise IndexError
