"""PAI iTAG manifests: one JSON object a line, `data.source` and the answers of up to three stages of labelling.

Of a line's `label-JOB`, `label-JOB-check` and `label-JOB-verify` the last stage that holds an answer counts; of several
jobs, the one written last. Answers are strings, lists of strings, `{"labels": {"单选": ...}}`, or any of these as JSON
inside a string.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from kinsight.data.sources.lines import ListFile, empty_list, find_list, read_lines
from kinsight.data.sources.parsed import Parsed, strings
from kinsight.data.sources.paths import IMAGE_SUFFIXES
from kinsight.data.sources.sniff import text_format
from kinsight.errors import DataError
from kinsight.specs.data import Itag

# Titles of the questions that classify, compared without case, blanks, hyphens and a final "question".
_CHOICES = ("单选", "多选", "单选题", "多选题", "singlechoice", "multiplechoice", "multichoice", "multiplechoices")
_STAGES = ("", "check", "verify")
_REGION = "image/"  # type of answers that mark a region of the image
_MARKS = ("id", "type", "value")


def read_itag(source: Itag, *, labelled: bool) -> Parsed:
    """Parse the manifest. Lines that nobody answered are left out and counted, unless no labels are wanted.

    Raises DataError naming file and line.
    """
    file = find_list(source.path)
    path_blocks, label_blocks, count_blocks, line_blocks = [], [], [], []
    num_unanswered = 0
    for lines in read_lines(file, comments=False):
        paths, labels, counts, kept = [], [], [], []
        for text, line in zip(lines.text_N, lines.line_N.tolist(), strict=True):
            path, answers = _read_line(text.as_py(), file, line)
            if labelled and not answers:
                num_unanswered += 1
                continue
            paths.append(path)
            labels.extend(answers)
            counts.append(len(answers))
            kept.append(line)
        path_blocks.append(pa.array(paths, pa.string()))
        label_blocks.append(pa.array(labels, pa.string()))
        count_blocks.append(np.array(counts, np.int32))
        line_blocks.append(np.array(kept, np.int32))
    if not path_blocks:
        raise empty_list(file)
    line_N = np.concatenate(line_blocks)
    if not line_N.size:
        raise _unanswered(file, num_unanswered)
    notes = (f"{num_unanswered} of {num_unanswered + len(line_N)} lines have no label and were left out",)
    return Parsed(
        strings(path_blocks),
        strings(label_blocks),
        np.concatenate(count_blocks),
        place=lambda i: file.place(int(line_N[i])),
        line_N=line_N,
        notes=notes if num_unanswered else (),
    )


def _read_line(text: str, file: ListFile, line: int) -> tuple[str, list[str]]:
    try:
        entry = json.loads(text)
        if not isinstance(entry, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError):
        raise _not_json(file, line, text) from None
    try:
        return _image(entry), _labels(entry)
    except ValueError as error:
        raise DataError(
            "data.itag-line",
            str(error),
            field=file.place(line),
            remedy="export the labelling job again, or mend the line",
        ) from None


def _image(entry: dict[str, Any]) -> str:
    """`data.source`, or in a custom template the only field of `data` that names an image."""
    data = _decoded(entry.get("data"))
    if isinstance(data, str):
        return data
    if not isinstance(data, dict):
        raise ValueError("has no `data` with the address of the image")
    if isinstance(source := data.get("source"), str) and source:
        return source
    named = [value for value in data.values() if isinstance(value, str) and _names_image(value)]
    if len(named) != 1:
        raise ValueError(f"`data` holds no `source`, and {len(named)} fields that name an image")
    return named[0]


def _names_image(text: str) -> bool:
    return text.partition("?")[0].rpartition(".")[2].lower() in IMAGE_SUFFIXES


def _labels(entry: dict[str, Any]) -> list[str]:
    """Labels of the last stage that holds any, each once, in order."""
    for stage in reversed(_STAGES):
        for key in reversed([key for key in entry if key.startswith("label") and _stage(key) == stage]):
            if labels := list(dict.fromkeys(_answers(entry[key]))):
                return labels
    return []


def _stage(key: str) -> str:
    end = key.rpartition("-")[2]
    return end if end in _STAGES else ""


def _answers(stage: Any) -> Iterator[str]:
    stage = _decoded(stage)
    results = _decoded(stage.get("results")) if isinstance(stage, dict) else stage
    if results is None:
        return
    if not isinstance(results, list):
        raise ValueError(f"`results` is {type(results).__name__}, a list is needed")
    results = [result for result in results if isinstance(result, dict)]
    # Next to questions that say they are choices, the others are free text or regions.
    choices = [result for result in results if _is_choice(result.get("markTitle"))]
    for result in choices or results:
        yield from _answer(_decoded(result.get("data")))


def _answer(data: Any) -> Iterator[str]:
    match data:
        case None | "":
            return
        case str():
            yield data.strip()
        case bool() | int():
            yield str(int(data))
        case list():
            for item in data:
                yield from _answer(_decoded(item))
        case {"labels": labels}:
            if not (str(data.get("type", "")).startswith(_REGION) and "value" in data):
                yield from _named_answer(_decoded(labels))
        case dict() if any(mark in data for mark in _MARKS):
            return  # a region without labels
        case dict():
            yield from _named_answer(data)
        case _:
            raise ValueError(f"label {data!r} is neither text nor an integer")


def _named_answer(labels: Any) -> Iterator[str]:
    """Answers by question: those of the choices, or of the only question there is."""
    if not isinstance(labels, dict):
        yield from _answer(labels)
        return
    chosen = [value for title, value in labels.items() if _is_choice(title)]
    if not chosen and len(labels) > 1:
        raise ValueError(f"cannot tell which of the questions {', '.join(labels)} gives the class")
    for value in chosen or labels.values():
        yield from _answer(_decoded(value))


def _is_choice(title: Any) -> bool:
    if not isinstance(title, str):
        return False
    plain = "".join(title.lower().split()).replace("-", "").replace("_", "").removesuffix("question")
    return plain in _CHOICES


def _decoded(value: Any) -> Any:
    """What a string holds that is itself JSON (object or list); anything else as it is."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _not_json(file: ListFile, line: int, text: str) -> DataError:
    kind = text_format(text)
    if kind is None and not text.startswith(("{", "[")):
        kind = "image-list"
    return DataError(
        "data.format" if kind else "data.itag-line",
        f"{text[:80]!r} is not a JSON object",
        field=file.place(line),
        remedy=f"set `format: {kind}`" if kind else "write one JSON object a line, complete on its line",
    )


def _unanswered(file: ListFile, num_lines: int) -> DataError:
    return DataError(
        "data.label-missing",
        f"none of its {num_lines} lines holds a label",
        field=file.name,
        remedy="export the results of a finished labelling job; answers stand under `label-...: {results: [...]}`",
    )
