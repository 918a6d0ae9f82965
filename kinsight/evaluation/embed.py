"""The `embed` job: images in, stored vectors out, a shard at a time, so that an interruption costs one shard."""

import fnmatch
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from kinsight import __version__, progress, storage
from kinsight.data import ImageLoader, Records, read_records, require_images
from kinsight.errors import SpecError
from kinsight.evaluation import vectors
from kinsight.evaluation.embedding import embed_records
from kinsight.evaluation.model import Model, load, load_backbone
from kinsight.specs.evaluate import EmbedSpec, EvaluateSpec
from kinsight.specs.load import as_tree, as_yaml, of

_SETTINGS = "spec.yaml"
_OURS = (_SETTINGS, vectors.HEADER, "vectors.npy", "labels.npy", "uris.txt", "events.jsonl")


def embed(spec: EmbedSpec | Mapping[str, Any], *, overwrite: bool = False) -> str:
    """Embed images; the same as `kinsight embed`. Returns the output's address.

    An unfinished output of the same settings is gone on with. overwrite: replace what is there.
    """
    spec = of(EmbedSpec, spec)
    output = storage.OutputDir(spec.output)
    output.check_writable()
    _claim(spec, output, overwrite)
    model = open_model(spec)
    records = read_records(spec.data, labelled=False)
    require_images(records, spec.data, field="data")
    for note in records.notes:
        progress.warn(note)
    with output:
        storage.write_text(output.path / _SETTINGS, as_yaml(spec))
        _write_all(spec, model, records, output)
    return spec.output


def open_model(spec: EmbedSpec | EvaluateSpec) -> Model:
    """The model a job names: its bundle, or its backbone."""
    if spec.bundle is not None:
        return load(spec.bundle, device=spec.device, precision=spec.precision)
    assert spec.model is not None, "the spec has seen to it"
    return load_backbone(spec.model, spec.image, device=spec.device, precision=spec.precision, seed=spec.seed)


def open_loader(spec: EmbedSpec | EvaluateSpec, model: Model, records: Records, *, labelled: bool) -> ImageLoader:
    """Reads `records` as `model` wants its images."""
    return ImageLoader(
        records, model.image, workers=spec.workers, max_broken=spec.max_broken, labelled=labelled, seed=spec.seed
    )


def _claim(spec: EmbedSpec, output: storage.OutputDir, overwrite: bool) -> None:
    place = output.address
    before = storage.read_text(place.child(_SETTINGS)) if storage.exists(place.child(_SETTINGS)) else None
    if overwrite and before is not None:
        for entry in storage.list_files(place, recursive=False):
            if fnmatch.fnmatch(entry.relative, "*part-*") or entry.relative in _OURS:
                storage.remove(place.child(entry.relative))
        return
    if before is not None and before != as_yaml(spec):
        raise SpecError(
            "embed.other-settings",
            "holds embeddings made with other settings",
            field=f"output={spec.output}",
            remedy="choose another output, or --overwrite to replace them",
        )
    if storage.exists(place.child(vectors.HEADER)):
        raise SpecError(
            "embed.finished",
            "holds finished embeddings of these settings",
            field=f"output={spec.output}",
            remedy="use them, or --overwrite to embed anew",
        )
    output.pull()


def _write_all(spec: EmbedSpec, model: Model, records: Records, output: storage.OutputDir) -> None:
    starts = range(0, len(records), vectors.SHARD_ROWS)
    events = progress.Events(output.path / "events.jsonl")
    broken: list[tuple[str, str]] = []
    rows = 0
    with progress.task("embed", len(records), "images", events=events) as task:
        for number, start in enumerate(starts):
            chosen = np.arange(start, min(start + vectors.SHARD_ROWS, len(records)))
            notes = output.path / f".{vectors.shard_name(number)}.json"
            if not notes.exists():
                found = _write_shard(spec, model, records.take(chosen), start, output, number, task)
                storage.write_text(notes, json.dumps(found))
                output.sync()
            else:
                task.skip_to(task.done + len(chosen))
            found = json.loads(notes.read_text(encoding="utf-8"))
            rows += found["rows"]
            broken += found["broken"]
    if spec.format == "npy":
        vectors.to_npy(output.path, len(starts), rows, model.embedding_dim)
    for number in range(len(starts)):
        (output.path / f".{vectors.shard_name(number)}.json").unlink()
    vectors.write_header(output.path, _header(spec, model, records, rows, len(starts), broken))
    output.publish(vectors.HEADER)
    events.close()
    progress.say(f"vectors     {rows:,} of length {model.embedding_dim} in {spec.output}")
    if broken:
        progress.say(f"broken      {len(broken)} images were skipped, named in {vectors.HEADER}")


def _write_shard(
    spec: EmbedSpec,
    model: Model,
    part: Records,
    start: int,
    output: storage.OutputDir,
    number: int,
    task: progress.Task,
) -> dict[str, Any]:
    with open_loader(spec, model, part, labelled=False) as loader:
        found = embed_records(model.net, loader, model.device, model.arithmetic, batch_size=spec.batch_size, task=task)
        emb_ND = torch.nn.functional.normalize(found.emb_ND, dim=1) if spec.normalize else found.emb_ND
        kept = part.table.take(found.index_N)
        labels, uris = kept["labels"].combine_chunks(), kept["uri"].combine_chunks()
        path = output.path / vectors.shard_name(number)
        vectors.write_shard(path, found.index_N + start, labels, uris, emb_ND.numpy())
        return {"rows": len(found.index_N), "broken": loader.broken}


def _header(
    spec: EmbedSpec, model: Model, records: Records, rows: int, shards: int, broken: list[tuple[str, str]]
) -> dict[str, Any]:
    return {
        "kinsight": __version__,
        "storage": spec.format,
        "count": rows,
        "dim": model.embedding_dim,
        "shards": shards,
        "normalized": spec.normalize,
        "class_names": records.class_names,
        "model": model.name,
        "model_hash": model.content_hash,
        "data_fingerprint": records.fingerprint,
        "broken_images": [{"image": uri, "reason": reason} for uri, reason in broken],
        "spec": as_tree(spec),
    }
