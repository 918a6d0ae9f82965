"""The forms that answers are written in: lines of JSON, an address with JSON behind it, columns of a table."""

import json
from typing import Any

import pyarrow as pa

_PROBABILITIES = pa.map_(pa.string(), pa.float32())
_CLASSIFICATION = {"class": pa.int32(), "class_name": pa.string(), "class_probs": _PROBABILITIES}
_MULTILABEL = {
    "class_probs": _PROBABILITIES,
    "classes": pa.list_(pa.int32()),
    "predictions": pa.list_(pa.bool_()),
    "class_names": pa.list_(pa.string()),
    "probs": pa.list_(pa.float32()),
}


def text_line(answer: dict[str, Any]) -> str:
    """`address, {...}`, with a line break at its end."""
    rest = {name: value for name, value in answer.items() if name != "image"}
    return f"{answer['image']}, {json.dumps(rest, ensure_ascii=False)}\n"


def parquet_schema(answers: str, *, several: bool) -> pa.Schema:
    """Columns of a table of answers; `error` says why an image has none."""
    columns = {"image": pa.string()}
    if answers != "features":
        columns |= _MULTILABEL if several else _CLASSIFICATION
    if answers != "classes":
        columns["feature"] = pa.list_(pa.float32())
    return pa.schema({**columns, "error": pa.string()})
