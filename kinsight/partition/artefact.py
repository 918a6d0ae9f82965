"""A partition on disk: `partition.json` (its header, written last), `ivfast.safetensors` and `ivfast.npy`.

    partition.json        format, version, sizes, metric, router, what it was measured at, SHA-256 of the other files
    ivfast.safetensors    centres, prices, router, projection, sizes of the lists among the learn vectors
    ivfast.npy            float32 (lists, dim): the lists' centres among users' vectors; for other tools

Shapes: L lists, D dimensions of users' vectors, R of routed ones.
"""

import hashlib
import io
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from kinsight import __version__, storage
from kinsight.errors import DataError, StorageError
from kinsight.neighbors import Metric
from kinsight.partition.clusters import Clusters
from kinsight.partition.routers import Router, mlp
from kinsight.partition.space import Space

FORMAT = "kinsight-partition"
VERSION = 2
HEADER = "partition.json"
WEIGHTS = "ivfast.safetensors"
CENTRES = "ivfast.npy"
_NEW = ".new"  # ending of a file that the header may name already, until it has taken the old one's place


class PartitionHeader(BaseModel):
    """What a partition says of itself.

    hidden: widths of the router's network. model,
    model_hash: of the embeddings it was learned from, None where another tool made them. measured: on held-out vectors.
    spec: the job that made it. files: SHA-256, in hex.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    format: Literal["kinsight-partition"] = FORMAT
    version: int = VERSION
    kinsight: str = ""
    metric: Metric
    dim: int = Field(ge=1)
    lists: int = Field(ge=1)
    hidden: tuple[int, ...] = ()
    model: str | None = None
    model_hash: str | None = None
    measured: dict[str, Any] = {}
    files: dict[str, str] = {}
    spec: dict[str, Any] = {}


@dataclass(frozen=True)
class Partition:
    """space: how vectors become routed ones. clusters: whose list a vector is. router: which lists a query looks into.
    size_L: vectors of each list among those learned from, float32. held_HD: some queries it did not learn from, float32
    as users gave them: by these an index finds its settings.
    """

    header: PartitionHeader
    space: Space
    clusters: Clusters
    router: Router
    size_L: Tensor
    held_HD: Tensor

    def save(self, address: storage.AddressLike) -> PartitionHeader:
        """Write it; the header as written. Whatever stops this, the old partition or the new one can be opened.

        Raises StorageError.
        """
        place = storage.Address.parse(address)
        data = {WEIGHTS: self.to_bytes(), CENTRES: _npy(self.plain_centres())}
        files = {name: hashlib.sha256(content).hexdigest() for name, content in data.items()}
        header = self.header.model_copy(update={"files": files, "version": VERSION, "kinsight": __version__})
        _settle(place)
        try:
            for name, content in data.items():
                storage.write_bytes(place.child(name + _NEW), content)
        except BaseException:
            for name in data:
                storage.remove(place.child(name + _NEW))
            raise
        storage.write_text(place.child(HEADER), header.model_dump_json(indent=1) + "\n")
        for name, content in data.items():
            _take_place(place, name, content)
        return header

    @classmethod
    def load(cls, address: storage.AddressLike) -> "Partition":
        """The partition at an address. Raises StorageError where nothing is, DataError for one altered or newer."""
        place = storage.Address.parse(address)
        header = _read_header(place)
        return replace(cls.from_bytes(_named_file(place, header, WEIGHTS), place.child(WEIGHTS)), header=header)

    def to_bytes(self) -> bytes:
        """All of it but the job's settings as one safetensors file, its header among the metadata."""
        header = self.header.model_copy(update={"files": {}, "spec": {}})
        return save_tensors(self._state(), {"header": header.model_dump_json()})

    @classmethod
    def from_bytes(cls, data: bytes, place: storage.Address | Path) -> "Partition":
        """What `to_bytes` gave; place: where it was found, for the DataError if it is something else."""
        try:
            length = int.from_bytes(data[:8], "little")
            metadata = json.loads(data[8 : 8 + length])["__metadata__"]
            return _built(PartitionHeader.model_validate_json(metadata["header"]), load_tensors(data))
        except (KeyError, TypeError, RuntimeError, ValueError, SafetensorError) as error:
            raise _altered(place, f"is not the network of a partition: {error}") from None

    def plain_centres(self) -> np.ndarray:
        """The lists' centres among users' vectors, under cosine among these at unit length: float32 (L, dim).

        Of principal components they have the mean in all directions that were left out.
        """
        centre_LR = self.clusters.centre_LD.detach().cpu().double()
        projection = self.space.projection
        if projection is not None:
            axes_DE = projection.axes_DE  # a centre's last number may be the length of what they leave out
            centre_LR = centre_LR[:, : axes_DE.shape[1]] @ axes_DE.T + projection.mean_D
        return centre_LR[:, : self.space.dim].float().numpy()

    def _state(self) -> dict[str, Tensor]:
        state = {
            "centre": self.clusters.centre_LD,
            "price": self.clusters.price_L,
            "size": self.size_L.float(),
            "held": self.held_HD.float(),
            **{f"router.{name}": tensor for name, tensor in self.router.state_dict().items()},
        }
        state |= {f"space.{name}": each for name, each in self.space.tensors().items()}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def _named_file(place: storage.Address, header: PartitionHeader, name: str) -> bytes:
    """The bytes that the header names, also where saving was stopped before they had taken their place."""
    for file in (place.child(name), place.child(name + _NEW)):
        if storage.exists(file):
            data = storage.read_bytes(file)
            if hashlib.sha256(data).hexdigest() == header.files.get(name):
                return data
    raise _altered(place, f"{name} is missing, or not the file that {HEADER} names (SHA-256 differs)")


def _settle(place: storage.Address) -> None:
    """Finish a save that was stopped: the next one writes under the same names."""
    if storage.exists(place.child(HEADER)):
        with suppress(DataError):
            named = _read_header(place).files
            for name in (WEIGHTS, CENTRES):
                file = place.child(name + _NEW)
                if storage.exists(file):
                    content = storage.read_bytes(file)
                    if hashlib.sha256(content).hexdigest() == named.get(name):
                        _take_place(place, name, content)


def _take_place(place: storage.Address, name: str, content: bytes) -> None:
    """The new file instead of the old one: locally a rename, which no full disk stops."""
    if place.is_local:
        path = place.child(name).local_path
        with storage.local_errors(path):
            place.child(name + _NEW).local_path.replace(path)
        return
    storage.write_bytes(place.child(name), content)
    storage.remove(place.child(name + _NEW))


def _built(header: PartitionHeader, state: dict[str, Tensor]) -> Partition:
    found = {name.removeprefix("space."): each for name, each in state.items() if name.startswith("space.")}
    space = Space.from_tensors(header.metric, header.dim, found)
    weight_LR, bias_L = state["router.weight"], state["router.bias"]
    if weight_LR.shape != (header.lists, space.routed_dim):
        raise ValueError(f"router of shape {tuple(weight_LR.shape)}, expected {(header.lists, space.routed_dim)}")
    network = mlp(space.routed_dim, header.hidden, header.lists, 0.0) if header.hidden else None
    router = Router(torch.empty_like(weight_LR), torch.empty_like(bias_L), network)
    weights = {name.removeprefix("router."): each for name, each in state.items() if name.startswith("router.")}
    router.load_state_dict(weights, strict=True)
    return Partition(
        header, space, Clusters(state["centre"], state["price"]), router.eval(), state["size"], state["held"]
    )


def _read_header(place: storage.Address) -> PartitionHeader:
    file = place.child(HEADER)
    if not storage.exists(file):
        raise _absent(place)
    try:
        content = json.loads(storage.read_text(file))
        header = PartitionHeader.model_validate(content)
    except (ValueError, ValidationError) as error:
        line = str(error).splitlines()[0]
        raise _altered(file, f"is not the header of a partition: {line}") from None
    if header.version > VERSION:
        raise DataError(
            "partition.newer",
            f"version {header.version}, this Kinsight reads up to {VERSION}; written by Kinsight {header.kinsight}",
            field=str(file),
            remedy="use that version of Kinsight, or learn the partition again",
        )
    return header


def _absent(place: storage.Address) -> DataError | StorageError:
    made = "learn one: kinsight partition VECTORS --output DIR"
    if storage.is_directory(place):
        what = f"holds no partition: {HEADER} is missing"
    elif storage.exists(place):
        what = "is a file, and a partition is a folder"
    else:
        return StorageError(
            "storage.not-found",
            "no partition there",
            field=f"partition={place}",
            remedy=f"check the address, or {made}",
        )
    return DataError("partition.absent", what, field=f"partition={place}", remedy=f"give its folder, or {made}")


def _altered(place: storage.Address | Path, what: str) -> DataError:
    return DataError("partition.altered", what, field=str(place), remedy="copy it again, whole, or learn it again")


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(array), allow_pickle=False)
    return out.getvalue()
