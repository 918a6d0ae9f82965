"""The `embed` job: images in, stored vectors out, a shard at a time.

Memory holds the records (some hundred bytes an image), the network, and one shard of vectors, however many images there
are; an interruption costs the shard at hand. While the job runs the output also holds, per finished shard, a note of
its rows and broken images, and what the shards were made from, so that no two models mix.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from kinsight import __version__, progress, storage
from kinsight.data import ImageLoader, Records, read_records, require_images, vectors
from kinsight.errors import DataError, InterruptedRun
from kinsight.evaluation.claim import MADE_FROM, claim, refuse_other
from kinsight.evaluation.embedding import embed_records
from kinsight.evaluation.model import Model, load, load_backbone
from kinsight.evaluation.settings import printed_tree
from kinsight.specs.evaluate import EmbedSpec, EvaluateSpec
from kinsight.specs.load import of

_EVENTS = "events.jsonl"


def embed(spec: EmbedSpec | Mapping[str, Any], *, overwrite: bool = False) -> str:
    """Embed images; the same as `kinsight embed`. Returns the output's address.

    An unfinished output of the same settings is gone on with. overwrite: replace what an earlier job left there.
    Raises KinsightError: SpecError for an output in use, StorageError, DataError past `max_broken` unreadable images,
    InterruptedRun after Ctrl-C.
    """
    spec = of(EmbedSpec, spec)
    output = storage.OutputDir(spec.output)
    output.check_writable()
    refuse_other(spec, output, overwrite)
    model = open_model(spec)
    records = read_records(spec.data, labelled=False)
    require_images(records, spec.data, field="data")
    for note in records.notes:
        progress.warn(note)
    with output:
        claim(spec, model, records, output, overwrite)
        _Job(spec, model, records, output).run()
    return spec.output


def open_model(spec: EmbedSpec | EvaluateSpec) -> Model:
    """The model a job names: its bundle, or its backbone."""
    if spec.bundle is not None:
        return load(spec.bundle, device=spec.device, precision=spec.precision)
    assert spec.model is not None, "the spec has seen to it"
    model = load_backbone(spec.model, spec.image, device=spec.device, precision=spec.precision, seed=spec.seed)
    licence = model.net.origin.licence
    progress.say(f"network     {model.name}" + (f"; its weights are under {licence}" if licence else ""))
    return model


def open_loader(spec: EmbedSpec | EvaluateSpec, model: Model, records: Records, *, labelled: bool) -> ImageLoader:
    """Reads `records` as `model` wants its images."""
    return ImageLoader(
        records, model.image, workers=spec.workers, max_broken=spec.max_broken, labelled=labelled, seed=spec.seed
    )


class _Job:
    """One run over all shards."""

    def __init__(self, spec: EmbedSpec, model: Model, records: Records, output: storage.OutputDir) -> None:
        self.spec, self.model, self.records, self.output = spec, model, records, output
        self.starts = range(0, len(records), vectors.SHARD_ROWS)
        self.rows = 0
        self.broken: list[tuple[str, str]] = []

    def run(self) -> None:
        events = progress.Events(self.output.path / _EVENTS)
        try:
            with (
                open_loader(self.spec, self.model, self.records, labelled=False) as loader,
                progress.task("embed", len(self.records), "images", events=events) as task,
            ):
                for number in range(len(self.starts)):
                    self._shard(number, loader, task)
        except KeyboardInterrupt:
            raise InterruptedRun(
                "embed.interrupted",
                f"stopped; {self.rows:,} vectors are stored",
                field=f"output={self.spec.output}",
                remedy="give the same command again to go on",
            ) from None
        finally:
            events.close()
        self._finish()

    def _shard(self, number: int, loader: ImageLoader, task: progress.Task) -> None:
        start = self.starts[number]
        chosen_N = np.arange(start, min(start + vectors.SHARD_ROWS, len(self.records)))
        note = self._note(number)
        if note.exists():
            task.skip_to(task.done + len(chosen_N))
        else:
            written = self._write(number, chosen_N, loader, task)
            storage.write_text(note, json.dumps(written))
            self.output.sync()
        known = json.loads(note.read_text(encoding="utf-8"))
        self.rows += known["rows"]
        self.broken += known["broken"]
        self._check_broken()

    def _write(self, number: int, chosen_N: np.ndarray, loader: ImageLoader, task: progress.Task) -> dict[str, Any]:
        model, told = self.model, len(loader.broken)
        found = embed_records(
            model.net,
            loader,
            model.device,
            model.arithmetic,
            batch_size=self.spec.batch_size,
            wanted_N=chosen_N,
            task=task,
        )
        emb_ND = torch.nn.functional.normalize(found.emb_ND, dim=1) if self.spec.normalize else found.emb_ND
        kept = self.records.table.take(found.index_N)
        labels, uris = kept["labels"].combine_chunks(), self.records.uris.take(pa.array(found.index_N)).combine_chunks()
        further = vectors.further_columns(kept)
        shard = self.output.path / vectors.shard_name(number)
        vectors.write_shard(shard, found.index_N, labels, uris, emb_ND, further)
        return {"rows": len(found.index_N), "broken": loader.broken[told:]}

    def _check_broken(self) -> None:
        """The loader counts what this process met; a continued job has met more."""
        if len(self.broken) > self.spec.max_broken * len(self.records):
            uri, reason = self.broken[0]
            raise DataError(
                "data.too-many-broken",
                f"{len(self.broken)} of {len(self.records)} images cannot be used, the first is {uri}: {reason}",
                field="max_broken",
                remedy="mend or remove them, or raise max_broken",
            )

    def _finish(self) -> None:
        folder, shards = self.output.path, len(self.starts)
        if self.spec.format == "npy":
            vectors.write_npy(folder, shards, self.rows, self.model.embedding_dim)
        vectors.write_header(folder, self._header())
        self.output.publish(vectors.HEADER)
        # Only now is nothing of this needed any more.
        for number in range(shards):
            self._note(number).unlink(missing_ok=True)
            if self.spec.format == "npy":
                (folder / vectors.shard_name(number)).unlink(missing_ok=True)
        (folder / MADE_FROM).unlink(missing_ok=True)
        progress.say(f"vectors     {self.rows:,} of length {self.model.embedding_dim} in {self.spec.output}")
        if self.broken:
            progress.say(f"broken      {len(self.broken)} images were skipped, named in {vectors.HEADER}")

    def _note(self, number: int) -> Path:
        return self.output.path / f".{vectors.shard_name(number)}.json"

    def _header(self) -> dict[str, Any]:
        spec, model, records = self.spec, self.model, self.records
        return {
            "kinsight": __version__,
            "storage": spec.format,
            "count": self.rows,
            "dim": model.embedding_dim,
            "shards": len(self.starts),
            "normalized": spec.normalize,
            "class_names": records.class_names,
            "model": model.name,
            "model_hash": model.content_hash,
            "images": len(records),
            "data_fingerprint": records.fingerprint,
            "broken_images": [{"image": uri, "reason": reason} for uri, reason in self.broken],
            "spec": printed_tree(spec),
        }
