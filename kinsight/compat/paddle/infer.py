"""`infer.py`: an `embed` job on the test list, the lines that the script printed, and class scores.

embeddings.json, part-*.parquet        id, labels, uri, vector (not scaled to unit length)
vectors.npy, labels.npy, uris.txt      the same vectors for other tools
scores.parquet                         where the model has class weights: id, classes, probabilities of the likeliest
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from kinsight import storage
from kinsight.compat.flags import Values
from kinsight.compat.paddle.common import begin
from kinsight.compat.paddle.evaluate import beside, using
from kinsight.compat.paddle.words import in_flags
from kinsight.data import vectors
from kinsight.errors import SpecError
from kinsight.evaluation import embed
from kinsight.evaluation.class_weights import ClassWeights, read_class_weights
from kinsight.progress import say
from kinsight.specs.evaluate import EmbedSpec
from kinsight.specs.flags import check

SCORES = "scores.parquet"
_LIKELIEST = 5
_SHOWN = 5
_BLOCK = 1024


def run(values: Values) -> None:
    """Write the features of all test images, print the first numbers of each batch's first. Raises KinsightError."""
    begin(values)
    with in_flags():
        spec = check(EmbedSpec, using(values) | {"output": beside(values, "features"), "normalize": False})
        assert isinstance(spec, EmbedSpec)
        weights = read_class_weights(spec.bundle) if spec.bundle is not None else None
        _embed(spec)
    with storage.OutputDir(spec.output) as output:
        output.pull(lambda name: name == vectors.HEADER or name.endswith(".parquet"))
        header = json.loads((output.path / vectors.HEADER).read_text(encoding="utf-8"))
        storage.remove(storage.Address.parse(spec.output).child(SCORES))
        shards = [output.path / vectors.shard_name(number) for number in range(header["shards"])]
        _print(shards, values["batch_size"])
        vectors.write_npy(output.path, header["shards"], header["count"], header["dim"])
        if weights is not None:
            _write_scores(output.path / SCORES, shards, weights)
    say(f"features    {spec.output}: Parquet, and vectors.npy beside it")
    if weights is not None:
        say(f"scores      {spec.output}/{SCORES}: the likeliest of {len(weights.class_names):,} training classes")
    else:
        say("scores      none: this model has no class weights")


def _embed(spec: EmbedSpec) -> None:
    """Go on with an unfinished output of the same model and images, replace any other."""
    try:
        embed(spec)
    except SpecError as error:
        if error.code not in ("embed.finished", "embed.other-settings", "embed.other-content"):
            raise
        embed(spec, overwrite=True)


class _Part(NamedTuple):
    """id_N: int64 place in the list. vector_ND: float32."""

    id_N: np.ndarray
    vector_ND: np.ndarray


def _parts(shards: list[Path]) -> Iterator[_Part]:
    for shard in shards:
        table = pq.read_table(shard, columns=["id", "vector"])
        yield _Part(table["id"].to_numpy(), vectors.flat_vectors(table).reshape(len(table), -1))


def _print(shards: list[Path], batch_size: int) -> None:
    shown = -1
    for part in _parts(shards):
        for number, vector_D in zip((part.id_N // batch_size).tolist(), part.vector_ND, strict=True):
            if number > shown:  # the first image of its batch that could be read
                print(f"Test-{number}-feature: {vector_D[:_SHOWN]}", flush=True)
                shown = number


def _write_scores(file: Path, shards: list[Path], weights: ClassWeights) -> None:
    names, head = np.array(weights.class_names), weights.head()
    count = min(_LIKELIEST, len(names))
    schema = pa.schema({"id": pa.int64(), "classes": pa.list_(pa.string()), "probabilities": pa.list_(pa.float32())})
    with storage.open_write(file) as stream, pq.ParquetWriter(stream, schema) as writer, torch.inference_mode():
        for part in _parts(shards):
            for start in range(0, len(part.id_N), _BLOCK):
                block_BD = torch.from_numpy(part.vector_ND[start : start + _BLOCK].copy())
                best = head.logits(block_BD).softmax(1).topk(count)
                chosen = [part.id_N[start : start + _BLOCK], names[best.indices.numpy()].tolist()]
                columns = [*chosen, best.values.numpy().tolist()]
                arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
