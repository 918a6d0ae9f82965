"""What a search job searches with: vectors of images, of stored embeddings, or of the index's own items."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from kinsight import progress, storage
from kinsight.data import ImageLoader
from kinsight.data.given import image_records
from kinsight.data.reading import shown
from kinsight.data.streaming import open_embeddings
from kinsight.errors import DataError
from kinsight.evaluation.embedding import embed_records
from kinsight.evaluation.model import Model, load
from kinsight.indexing import Index
from kinsight.models import load_header
from kinsight.serving.engine import check_same_model
from kinsight.specs.search import SearchSpec

_NAMED = 10  # broken images


@dataclass(frozen=True)
class Queries:
    """vector_QD: float32. names: what results call the queries. uris: of their images, empty where unknown.
    exclude_Q: row of the index that is the query itself. broken: (address, reason) of images left out.
    """

    vector_QD: Tensor
    names: list[str]
    uris: list[str]
    exclude_Q: Tensor | None = None
    broken: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)


def find_queries(spec: SearchSpec, index: Index) -> Queries:
    """The queries that a search names. Raises DataError for those of another model than the index's."""
    if spec.images:
        assert spec.bundle is not None, "the spec has seen to it"
        model = load(spec.bundle, device=spec.device, precision=spec.precision)
        check_same_model(index, model.content_hash, model.name)
        return _of_images(spec, model, index)
    if spec.bundle is not None:
        check_same_model(index, load_header(spec.bundle).content_hash, str(storage.Address.parse(spec.bundle)))
    if spec.ids:
        rows = index.rows_of(spec.ids)
        uris = index.items(rows)["uri"].to_pylist()
        return Queries(index.vectors(rows), list(spec.ids), uris, torch.from_numpy(rows))
    assert spec.vectors is not None, "the spec has seen to it"
    return _of_vectors(spec.vectors, index)


def _of_images(spec: SearchSpec, model: Model, index: Index) -> Queries:
    records = image_records(spec.images)
    loader = ImageLoader(records, model.image, workers=spec.workers, max_broken=spec.max_broken, labelled=False)
    with loader, progress.task("embed", len(records), "images") as task:
        found = embed_records(model.net, loader, model.device, model.arithmetic, batch_size=spec.batch_size, task=task)
    _name_broken(loader.broken)
    # As the index's own vectors: where length counts, both sides need the same.
    unit = index.header.normalized is not False
    vector_QD = torch.nn.functional.normalize(found.emb_ND, dim=1) if unit else found.emb_ND
    uris = records.uris.take(pa.array(found.index_N)).to_pylist()
    return Queries(vector_QD, [shown(uri) for uri in uris], uris, broken=list(loader.broken))


def _of_vectors(address: str, index: Index) -> Queries:
    stream = open_embeddings(address, dataset="test")
    header = stream.header
    if index.model_hash is not None and not header:
        progress.warn(f"the vectors do not say which model made them; the index's were made by {index.model}")
    elif header and (header.get("model_hash"), header.get("model_hash") or header.get("model")) != (
        index.model_hash,
        index.model_hash or index.model,
    ):
        raise _other(stream.place, f"made by {header.get('model')}, the index by {index.model or 'an unnamed model'}")
    if header and index.metric != "cosine" and header.get("normalized") != index.header.normalized:
        raise _other(stream.place, "scaled otherwise than the index's vectors (normalize of `kinsight embed`)")
    blocks = list(stream.blocks())
    uris = [uri for block in blocks for uri in block.uri.to_pylist()]
    names = [shown(uri) if uri else str(row) for row, uri in enumerate(uris)]
    return Queries(torch.from_numpy(np.concatenate([block.vector_ND for block in blocks])), names, uris)


def _other(place: storage.Address, what: str) -> DataError:
    return DataError(
        "search.other-model",
        f"{what}: they cannot be compared",
        field=f"vectors={place}",
        remedy="embed the queries with the model and settings of the index",
    )


def _name_broken(broken: list[tuple[str, str]]) -> None:
    for uri, reason in broken[:_NAMED]:
        progress.warn(f"{shown(uri)} is left out: {reason}")
    if len(broken) > _NAMED:
        progress.warn(f"{len(broken) - _NAMED} more images are left out")
