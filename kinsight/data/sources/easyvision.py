"""PAI EasyVision's label files: `id,{"url": "oss://..."},{"option": "Passport"}` a line.

The commas inside the JSON are not quoted, so a line is no CSV; the documentation's own samples are no JSON either:
`"{"option":"Passport"}` and `{["option":"A", "option":"B"]}`. What is read is what they mean: an address, and answers.
A line quoted as CSV quotes it, `1,"{""url"": ...}","{""option"": ...}"`, is read as well.
"""

import csv
import json
import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from kinsight.data.sources.lines import ListFile, empty_list, find_list, read_lines
from kinsight.data.sources.parsed import Parsed, strings
from kinsight.errors import DataError
from kinsight.specs.data import EasyVisionCsv

_DECODER = json.JSONDecoder()
_URL_KEYS = ("url", "tfspath", "source", "image")
_PAIR = re.compile(r'"option"\s*:\s*("(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^\s,\]}]+)')
_URL = re.compile(r'"(?:' + "|".join(_URL_KEYS) + r')"\s*:\s*"((?:[^"\\]|\\.)*)"')
_HEADER = re.compile(r"^\W*(id|数据ID|data)\W", re.IGNORECASE)


class _Line(NamedTuple):
    url: str
    options: list[str]


def read_easyvision_csv(source: EasyVisionCsv, *, labelled: bool) -> Parsed:
    """Parse the file. Raises DataError naming file and line of what cannot be understood."""
    file = find_list(source.path)
    urls, labels, counts, numbers = [], [], [], []
    num_broken = 0
    for lines in read_lines(file, comments=False):
        for text, number in zip(lines.text_N, lines.line_N.tolist(), strict=True):
            text = text.as_py()
            if not numbers and _HEADER.match(text) and "{" not in text:
                continue
            line, repaired = _read_line(text, file, number)
            if labelled and not line.options:
                raise DataError(
                    "data.label-missing",
                    "no option was chosen",
                    field=file.place(number),
                    remedy='write {"option": "name"} behind the address, or remove the line',
                )
            num_broken += repaired
            urls.append(line.url)
            labels.extend(line.options)
            counts.append(len(line.options))
            numbers.append(number)
    if not urls:
        raise empty_list(file)
    notes = (f"{num_broken} of {len(urls)} lines are no valid JSON and were read for what they mean",)
    return Parsed(
        strings([pa.array(urls, pa.string())]),
        strings([pa.array(labels, pa.string())]),
        np.array(counts, np.int32),
        place=lambda i: file.place(numbers[i]),
        line_N=np.array(numbers, np.int32),
        notes=notes if num_broken else (),
    )


def _read_line(text: str, file: ListFile, number: int) -> tuple[_Line, bool]:
    """What a line says, and whether it had to be mended."""
    cells = _quoted_cells(text)
    begin = text.find("{")
    if begin < 0:
        raise _malformed(file, number, text, 'there is no {"url": ...}')
    url_text, result = cells if cells is not None else _split(text[begin:])
    url, whole = _url(url_text)
    if not url:
        raise _malformed(file, number, text, f"no address of an image under {' or '.join(map(repr, _URL_KEYS))}")
    if (options := _options(result)) is not None:
        return _Line(url, options), not whole
    if (options := _mended(result)) is None:
        raise _malformed(file, number, text, f"cannot tell the labels from {result[:60]!r}")
    return _Line(url, options), True


def _quoted_cells(text: str) -> tuple[str, str] | None:
    """Address and result of a line that is good CSV."""
    if '""' not in text:
        return None
    try:
        cells = next(csv.reader([text], strict=True))
    except csv.Error:
        return None
    found = [cell for cell in cells if cell.lstrip().startswith(("{", "["))]
    return (found[0], found[1] if len(found) > 1 else "") if found else None


def _split(text: str) -> tuple[str, str]:
    """The first JSON object, and what follows its comma."""
    try:
        _, end = _DECODER.raw_decode(text)
    except ValueError:
        end = text.find("}") + 1 or len(text)
    return text[:end], text[end:].strip().removeprefix('"').strip().removeprefix(",").strip()


def _url(text: str) -> tuple[str, bool]:
    """The address, and whether it stood in good JSON."""
    try:
        found = json.loads(text)
    except ValueError:
        found = _URL.search(text)
        return (found[1].replace("\\/", "/") if found else ""), False
    values = [found.get(key) for key in _URL_KEYS] if isinstance(found, dict) else []
    return next((value for value in values if isinstance(value, str) and value), ""), True


def _options(text: str) -> list[str] | None:
    """The labels of a result that is good JSON; none where there is no result; None where it is neither."""
    if not text or text in ("{}", "[]", "null", '""'):
        return []
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if isinstance(found, list) and all(isinstance(item, dict) for item in found):
        parts = [_options(json.dumps(item)) for item in found]
        return None if None in parts else _once([name for part in parts if part for name in part])
    if not isinstance(found, dict) or "option" not in found:
        return None
    # json keeps the last of equal keys, which a result may have several of.
    if text.count('"option"') > 1:
        return None
    return _names(found["option"])


def _names(value: object) -> list[str] | None:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str | int) and not isinstance(each, bool) for each in values):
        return [] if values == [None] else None
    return _once([str(each).strip() for each in values])


def _mended(text: str) -> list[str] | None:
    """All values that stand behind "option", however the braces and quotes around them are set."""
    pairs = _PAIR.findall(text)
    if not pairs:
        return None
    names: list[str] = []
    for value in pairs:
        try:
            found = json.loads(value)
        except ValueError:
            found = [part.strip(" \t\"'[]") for part in value.split(",")]
        if (part := _names(found)) is None:
            return None
        names += part
    return _once(names)


def _once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))


def _malformed(file: ListFile, number: int, text: str, what: str) -> DataError:
    return DataError(
        "data.easyvision-line",
        f"{text[:100]!r}: {what}",
        field=file.place(number),
        remedy='write id,{"url":"oss://bucket/a.jpg"},{"option":"name"}, or {"option":["a","b"]} for several labels',
    )
