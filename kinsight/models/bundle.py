"""Model bundles as networks: save one, load one, with nothing but the bundle itself."""

from collections.abc import Sequence
from importlib import metadata
from typing import Any, Literal, NamedTuple

from kinsight import storage
from kinsight.errors import DataError
from kinsight.models.artefact import BundleHeader, Task, read_artefact, write_artefact
from kinsight.models.build import build_network
from kinsight.models.classifier import PREFIX, Classifier
from kinsight.models.network import EmbeddingNet
from kinsight.specs.data import ImageSpec
from kinsight.specs.model import ModelSpec


class Bundle(NamedTuple):
    """A network in evaluation mode on the CPU, and what its bundle says of it.

    classifier: maps the network's embeddings (B, D) to logits (B, C) of `header.class_names`; None in task `metric`.
    """

    net: EmbeddingNet
    header: BundleHeader
    classifier: Classifier | None = None


def make_header(
    net: EmbeddingNet,
    *,
    model: ModelSpec,
    image: ImageSpec,
    metric: Literal["cosine", "l2", "ip"] = "cosine",
    task: Task = "metric",
    class_names: Sequence[str] = (),
    data_fingerprint: str | None = None,
    data_sketch: Sequence[str] = (),
    spec: dict[str, Any] | None = None,
) -> BundleHeader:
    """The header for `net`, built from `model` and `image`. spec: the whole job, as plain JSON values."""
    plain = model.model_dump(mode="json")
    for key in ("pretrained", "init_from"):
        if plain[key] not in (None, "default"):  # an address may carry a signature; its printed form does not
            plain[key] = str(storage.Address.parse(plain[key]))
    return BundleHeader(
        kinsight=metadata.version("kinsight"),
        model=plain,
        image=ImageSpec(image_size=image.image_size, color=image.color, crop=image.crop).model_dump(mode="json"),
        mean=net.mean,
        std=net.std,
        embedding_dim=net.embedding_dim,
        metric=metric,
        task=task,
        class_names=tuple(class_names),
        data_fingerprint=data_fingerprint,
        data_sketch=tuple(data_sketch),
        weights_source=net.origin.source,
        weights_licence=net.origin.licence,
        spec=spec,
    )


def save_bundle(
    address: storage.AddressLike, net: EmbeddingNet, header: BundleHeader, classifier: Classifier | None = None
) -> BundleHeader:
    """Write `net` without its auxiliary branch, and its classifier, if there is one; gives the header as written, with
    the weights' hash.

    The header is written last: a bundle without one is incomplete. Raises StorageError.
    """
    state = net.bundled_state()
    if classifier is not None:
        assert classifier.form.num_classes == len(header.class_names), "a logit for every class name"
        state |= classifier.bundled_state()
    form = classifier.form if classifier is not None else None
    return write_artefact(address, state, header.model_copy(update={"classifier": form}))


def load_bundle(address: storage.AddressLike) -> Bundle:
    """The bundle at `address`, or in the run directory there. Needs no network beyond that address.

    Raises StorageError where nothing is, DataError for an incomplete, altered, foreign or newer bundle.
    """
    header, state = read_artefact(address)
    net = build_network(header.model_spec(), image=header.image_spec(), seed=0, fill=False)
    classifier = Classifier(header.classifier) if header.classifier is not None else None
    try:
        own = {name: value for name, value in state.items() if not name.startswith(PREFIX)}
        net.load_state_dict(own, strict=True)
        if classifier is not None:
            found = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
            classifier.load_state_dict(found, strict=True)
    except RuntimeError as error:
        raise DataError(
            "bundle.mismatch",
            f"the weights do not fit the network that the header describes: {_second_line(error)}",
            field=str(storage.Address.parse(address)),
            remedy=f"load it with Kinsight {header.kinsight} and the timm of that time",
        ) from error
    net.set_normalisation(header.mean, header.std)
    return Bundle(net.eval(), header, classifier.eval() if classifier is not None else None)


def _second_line(error: Exception) -> str:
    """torch heads the list of mismatches with a line that says only that there are some."""
    lines = str(error).splitlines()
    return lines[min(1, len(lines) - 1)].strip()
