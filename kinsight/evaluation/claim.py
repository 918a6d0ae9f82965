"""Whose the output of an `embed` job is: free, to be gone on with, finished, or somebody else's."""

import json
import re
from typing import Any

import yaml

from kinsight import storage
from kinsight.data import Records, vectors
from kinsight.errors import SpecError
from kinsight.evaluation.model import Model
from kinsight.evaluation.settings import differing_fields, printed_tree
from kinsight.specs.evaluate import EmbedSpec

MADE_FROM = ".made-from.json"
_OURS = re.compile(
    rf"{re.escape(MADE_FROM)}|events\.jsonl|spec\.yaml|embeddings\.json|vectors\.npy|labels\.npy|uris\.txt"
    r"|\.?part-\d{5,}\.parquet(\.json)?"
)
# What may differ between a job and its continuation: where it computes, not what.
_MACHINE = ("output", "workers", "device", "batch_size", "max_broken")


def refuse_other(spec: EmbedSpec, output: storage.OutputDir, overwrite: bool) -> None:
    """Raise unless the output is free, or unfinished and of the same settings, or may be overwritten."""
    settings, header = (output.address.child(name) for name in (vectors.SPEC, vectors.HEADER))
    place = f"output={output.address}"
    if storage.exists(settings):
        before = _settings(storage.read_text(settings))
        if before.get("job") != "embed":
            what = f"holds {vectors.SPEC} of something else than embeddings"
            raise SpecError("embed.occupied", what, field=place, remedy="choose another output")
        differing = differing_fields(before, printed_tree(spec), _MACHINE)
        if differing and not overwrite:
            raise SpecError(
                "embed.other-settings",
                f"holds a job of other settings: {'; '.join(differing)}",
                field=place,
                remedy="choose another output, or --overwrite to replace what is there",
            )
    if storage.exists(header) and not overwrite:
        raise SpecError(
            "embed.finished",
            "holds finished embeddings",
            field=place,
            remedy="use them, choose another output, or --overwrite to embed anew",
        )


def _settings(text: str) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError:
        tree = None
    return tree if isinstance(tree, dict) else {}


def claim(spec: EmbedSpec, model: Model, records: Records, output: storage.OutputDir, overwrite: bool) -> None:
    """Clear the output, or take over what an unfinished job of the same model and images left there."""
    place = output.address
    if overwrite and storage.is_directory(place):
        names = [entry.relative for entry in storage.list_files(place, recursive=False)]
        for name in sorted((name for name in names if _OURS.fullmatch(name)), key=lambda name: name != vectors.HEADER):
            storage.remove(place.child(name))
    output.pull(lambda relative: _OURS.fullmatch(relative) is not None and _needed(spec, relative))
    made_from = {
        "model": model.content_hash or model.name,
        "data": records.fingerprint,
        "precision": model.arithmetic.name,
        "shard_rows": vectors.SHARD_ROWS,
    }
    note = output.path / MADE_FROM
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) != made_from:
        raise SpecError(
            "embed.other-content",
            "was begun with another model, other images or another precision, though the settings are the same",
            field=f"output={place}",
            remedy="choose another output, or --overwrite to begin anew",
        )
    storage.write_text(output.path / vectors.SPEC, yaml.safe_dump(printed_tree(spec), sort_keys=False))
    storage.write_text(note, json.dumps(made_from))


def _needed(spec: EmbedSpec, relative: str) -> bool:
    """Whether a continuation reads this file again: finished Parquet shards can stay where they are."""
    return spec.format == "npy" or not relative.endswith(".parquet")
