"""The class weights beside a model: what turns its embeddings into scores of the classes it was trained on.

`class_weights.safetensors` in a bundle's folder: the tensors of a head over classes, and in the file's metadata the
loss they belong to.
"""

import json
from dataclasses import dataclass

import torch
from pydantic import TypeAdapter, ValidationError

from kinsight import storage
from kinsight.errors import DataError
from kinsight.losses import ClassHead, LabelHead, build_objective
from kinsight.models import load_header
from kinsight.specs.losses import Loss

FILE = "class_weights.safetensors"
FORMAT = "kinsight-class-weights"
VERSION = "1"


@dataclass(frozen=True)
class ClassWeights:
    """loss: what they were trained with. state: the head's tensors. class_names: in the order of its scores."""

    loss: Loss
    state: dict[str, torch.Tensor]
    class_names: tuple[str, ...]
    embedding_dim: int

    def head(self) -> ClassHead | LabelHead:
        """The head, on the CPU, in evaluation mode: `head.logits(emb_BD)` gives the scores (B, C)."""
        loss, classes = self.loss, len(self.class_names)
        if loss.ce is not None:
            loss = loss.model_copy(update={"ce": None})
        head = build_objective(loss, num_classes=classes, embedding_dim=self.embedding_dim).head
        assert head is not None, "only losses over classes and labels are written"
        head.load_state_dict(self.state)
        return head.eval()


def write_class_weights(address: storage.AddressLike, head: ClassHead | LabelHead, loss: Loss) -> None:
    """Put a head's weights into the folder of its bundle. Raises StorageError."""
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
    metadata = {"format": FORMAT, "version": VERSION, "loss": json.dumps(loss.model_dump(mode="json"))}
    storage.write_bytes(storage.Address.parse(address).child(FILE), save(state, metadata))


def read_class_weights(bundle: storage.AddressLike) -> ClassWeights | None:
    """The class weights of the bundle at this address, or in the run there; None where it has none.

    Raises StorageError where no bundle is, DataError for class weights that are damaged or of another bundle.
    """
    header = load_header(bundle)
    place = storage.Address.parse(bundle)
    file = next((f for f in (place.child(FILE), place.child(f"bundle/{FILE}")) if storage.exists(f)), None)
    if file is None:
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(storage.copy_in(file), "pt") as opened:
            metadata = opened.metadata() or {}
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  no mapping
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
            raise _damaged(file, f"is {metadata.get('format')} {metadata.get('version')}, not {FORMAT} {VERSION}")
        loss: Loss = TypeAdapter(Loss).validate_json(metadata.get("loss", ""))
        found = ClassWeights(loss, state, header.class_names, header.embedding_dim)
        found.head()
    except (SafetensorError, ValidationError, RuntimeError, AssertionError) as error:
        raise _damaged(file, f"does not belong to the bundle beside it: {str(error).splitlines()[0]}") from None
    return found


def _damaged(file: storage.Address, what: str) -> DataError:
    return DataError("bundle.class-weights", what, field=str(file), remedy="copy the bundle again, or remove this file")
