"""Answers on their way: finished parts beside the output, which becomes one file, whole, at the end.

`<output>.parts/` holds `job.json`, what the parts were made from, and `part-<first>-<end>.jsonl`, consecutive images
each. A killed job leaves it, and the same job goes on after the last part.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kinsight import storage
from kinsight.errors import SpecError
from kinsight.evaluation.settings import differing_fields
from kinsight.predicting.lines import parquet_schema, text_line
from kinsight.specs.predict import PredictSpec

_JOB = "job.json"
_PART = re.compile(r"part-(\d+)-(\d+)\.jsonl")


class _Part(NamedTuple):
    first: int
    end: int

    @property
    def name(self) -> str:
        return f"part-{self.first:012d}-{self.end:012d}.jsonl"


class Parts:
    """The parts of one output. Made by `claim`. done: images answered; failed: those among them with an error.
    answered_N: of those that an earlier job has done, whether they are without.
    """

    def __init__(self, spec: PredictSpec) -> None:
        self._spec = spec
        self.output = storage.Address.parse(spec.output)
        self.folder = self.output.parent.child(f"{self.output.name}.parts")
        self._parts: list[_Part] = []
        self.failed = 0
        self.answered_N = np.zeros(0, bool)

    @property
    def done(self) -> int:
        return self._parts[-1].end if self._parts else 0

    def claim(self, made_from: dict[str, Any], overwrite: bool) -> None:
        """Take over the parts of an unfinished job of the same settings, model and images, or begin.

        Raises SpecError where another job's are and `overwrite` is not set.
        """
        job = self.folder.child(_JOB)
        if overwrite:
            storage.remove(job)  # first: what a kill leaves of the rest is then nobody's
        if not storage.exists(job):
            storage.remove_tree(self.folder)  # parts of which nobody knows what they were made from
            storage.write_text(job, json.dumps(made_from))
            return
        before = _content(storage.read_text(job))
        if before != made_from:
            raise SpecError(
                "predict.other-job",
                f"{self.folder} holds the beginning of another job: {_differing(before, made_from)}",
                field=f"output={self._spec.output}",
                remedy="choose another output, or --overwrite to begin anew",
            )
        self._parts = self._found()
        self.answered_N = np.array([not _is_error(line) for line in self._lines()], bool)
        self.failed = int((~self.answered_N).sum())

    def add(self, answers: list[dict[str, Any]]) -> None:
        """Keep the answers of the next images, whole or not at all."""
        part = _Part(self.done, self.done + len(answers))
        text = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
        storage.write_text(self.folder.child(part.name), text)
        self._parts.append(part)
        self.failed += sum("error" in answer for answer in answers)

    def give_up(self) -> None:
        """Leave the parts for people to read, and to no job."""
        storage.remove(self.folder.child(_JOB))

    def publish(self, *, several: bool) -> None:
        """Make one file of all parts, and remove them. several: whether images have any number of labels."""
        with storage.open_write(self.output) as file:
            if self.output.name.lower().endswith(".parquet"):
                schema = parquet_schema(self._spec.answers, several=several)
                with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                    for part in self._parts:
                        rows = [json.loads(line) for line in _lines_of(self._text(part))]
                        writer.write_table(pa.Table.from_pylist(rows, schema))
            elif self._spec.lines == "json":
                for part in self._parts:
                    file.write(self._text(part).encode())
            else:
                for line in self._lines():
                    file.write(text_line(json.loads(line)).encode())
        storage.remove_tree(self.folder)

    def _lines(self) -> Iterator[str]:
        for part in self._parts:
            yield from _lines_of(self._text(part))

    def _text(self, part: _Part) -> str:
        return storage.read_text(self.folder.child(part.name))

    def _found(self) -> list[_Part]:
        """The parts that follow each other from the first image on."""
        entries = storage.list_files(self.folder, recursive=False)
        matches = [match for entry in entries if (match := _PART.fullmatch(entry.relative))]
        by_first = {int(match[1]): _Part(int(match[1]), int(match[2])) for match in matches}
        found: list[_Part] = []
        while (part := by_first.get(found[-1].end if found else 0)) is not None:
            found.append(part)
        return found


def _lines_of(text: str) -> list[str]:
    """At line breaks alone: names may hold other characters that Python takes for the end of a line."""
    return text.split("\n")[:-1]


def _is_error(line: str) -> bool:
    return '"error":' in line and "error" in json.loads(line)


_NAMES = {"images": "the images or their order", "model": "the model", "class_names": "the names of classes"}


def _differing(before: Any, now: dict[str, Any]) -> str:
    """What makes them two jobs, for people."""
    if not isinstance(before, dict):
        return "nobody can read of which settings"
    old, new = before.get("settings"), now["settings"]
    told = differing_fields(old, new, ()) if isinstance(old, dict) else []
    for name in (name for name in now if name != "settings" and before.get(name) != now[name]):
        told.append(
            f"{_NAMES.get(name, name)} differ" if name in ("images", "class_names") else _was(name, before, now)
        )
    return "; ".join(told)


def _was(name: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    if isinstance(now[name], str | float) and name != "model":
        return f"{name} was {before.get(name)}, now {now[name]}"
    return f"{_NAMES.get(name, f'the {name}')} {'differ' if name == 'thresholds' else 'is another'}"


def _content(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
