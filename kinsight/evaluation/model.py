"""A model ready to embed: from a bundle, or a backbone as it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kinsight.data import BrokenImage, decode
from kinsight.data.crops import evaluation_crop
from kinsight.data.decode import square
from kinsight.data.reading import num_channels, read_image
from kinsight.errors import DataError, SpecError
from kinsight.evaluation.decision import Decision
from kinsight.evaluation.finite import refuse_not_finite
from kinsight.models import Classifier, EmbeddingNet, build_backbone, load_bundle
from kinsight.parallel.device import Arithmetic, choose_precision, pick_device
from kinsight.specs.data import ImageSpec
from kinsight.specs.evaluate import BackboneSpec
from kinsight.specs.train import Device, Precision
from kinsight.storage import Address


@dataclass(frozen=True)
class Model:
    """An embedding model on a device; made by `load`.

    image: how images are prepared. name: for people. content_hash: of what decides a vector; None for a bare backbone.
    classifier, decision: from vectors to logits, and from logits to answers; None where the bundle has no classifier.
    """

    net: EmbeddingNet
    image: ImageSpec
    device: torch.device
    arithmetic: Arithmetic
    name: str
    class_names: tuple[str, ...] = ()
    content_hash: str | None = None
    classifier: Classifier | None = None
    decision: Decision | None = None

    @property
    def embedding_dim(self) -> int:
        """Length of the vectors."""
        return self.net.embedding_dim

    def embed(self, images: Sequence[Any], *, batch_size: int = 256, normalize: bool = True) -> np.ndarray:
        """Vectors of images: float32 (N, embedding_dim), unit rows unless `normalize` is off.

        images: addresses or paths, encoded bytes, PIL images, or uint8 arrays (H, W), (H, W, 1) or (H, W, 3) in RGB.
        Encoded images are decoded at reduced scale where that is enough, pixels can only be resized: an image's vector
        as a file and as pixels differ a little (cosine 0.99 and more). Give all images of a comparison in one form.
        Raises DataError naming the first image that cannot be used.
        """
        _need_list(images)
        emb_ND = torch.empty(len(images), self.embedding_dim)
        for start, pixels_BCHW in self._batches(images, batch_size):
            emb_BD = self.vectors(pixels_BCHW, normalize=normalize)
            refuse_not_finite(_names(start, emb_BD), emb_BD)
            emb_ND[start : start + len(pixels_BCHW)] = emb_BD
        return emb_ND.numpy()

    def predict(
        self, images: Sequence[Any], *, top_k: int | None = None, batch_size: int = 256
    ) -> list[dict[str, Any]]:
        """What images show, an answer for each: see `Decision.answers`. images: as `embed` takes them.

        Raises DataError for a bundle without classifier, and naming the first image that cannot be used.
        """
        _need_list(images)
        decision = self.need_decision()
        answers: list[dict[str, Any]] = []
        for start, pixels_BCHW in self._batches(images, batch_size):
            logit_BC = self.logits(pixels_BCHW)
            refuse_not_finite(_names(start, logit_BC), logit_BC)
            answers += decision.answers(logit_BC, top_k=top_k)
        return answers

    def _batches(self, images: Sequence[Any], batch_size: int) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, len(images), batch_size):
            chunk = images[start : start + batch_size]
            pixels = [self.pixels(image, f"images[{start + offset}]") for offset, image in enumerate(chunk)]
            yield start, torch.stack(pixels)

    def vectors(self, images_BCHW: Tensor, *, normalize: bool = True) -> Tensor:
        """Vectors of prepared images (uint8, on any device): float32 (B, embedding_dim) on the CPU."""
        with torch.inference_mode(), self.arithmetic.autocast():
            emb_BD = self.net(images_BCHW.to(self.device)).float()
        return (torch.nn.functional.normalize(emb_BD, dim=1) if normalize else emb_BD).cpu()

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """Logits of prepared images (uint8, on any device): float32 (B, classes) on the CPU."""
        self.need_decision()
        assert self.classifier is not None, "a decision needs logits"
        with torch.inference_mode(), self.arithmetic.autocast():
            return self.classifier(self.net(images_BCHW.to(self.device)).float()).cpu()

    def need_decision(self) -> Decision:
        """What turns logits into answers. Raises DataError for a model without classifier."""
        if self.decision is None:
            raise DataError(
                "bundle.no-classifier",
                "has no classifier: it was trained for embeddings (task metric)",
                field=self.name,
                remedy="embed images and search with them, or train with task=classification or task=multilabel",
            )
        return self.decision

    def pixels(self, image: Any, name: str = "image") -> Tensor:
        """An image as `vectors` takes it, uint8 (C, S, S). image: as in `embed`. Raises BrokenImage, DataError."""
        size, channels = self.image.image_size, num_channels(self.image)
        choose = partial(evaluation_crop, share=self.image.crop)
        if isinstance(image, str | PathLike):
            uri = str(image)
            return decode(read_image(uri), uri, choose, size=size, channels=channels)
        if isinstance(image, bytes | bytearray):
            return decode(image, name, choose, size=size, channels=channels)
        picture = _picture(image, name)
        try:
            return square(picture, choose, size=size, channels=channels)
        except MemoryError:
            raise
        except Exception as error:  # PIL images are read late, and decoders raise nearly every type
            raise BrokenImage(name, " ".join(str(error).split()) or type(error).__name__) from error


def _names(start: int, rows: Tensor) -> list[str]:
    return [f"images[{start + offset}]" for offset in range(len(rows))]


def _need_list(images: Any) -> None:
    if isinstance(images, str | bytes | bytearray | PathLike | Image.Image):
        raise SpecError(
            "embed.one-image",
            f"{type(images).__name__}: a single image where a list is expected",
            field="images",
            remedy="put it into a list: model.embed([image])[0]",
        )


def _picture(image: Any, name: str) -> Any:
    from PIL import Image

    if isinstance(image, Image.Image):
        return image
    array = np.asarray(image)
    if (
        array.size == 0
        or array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (1, 3))
    ):
        raise DataError(
            "data.image-array",
            f"{type(image).__name__} of {array.dtype} {array.shape}: expected uint8 (H, W), (H, W, 1) or (H, W, 3)",
            field=name,
            remedy="pass RGB bytes, a PIL image, or a path",
        )
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def load(bundle: str | PathLike[str], *, device: str = "auto", precision: str = "auto") -> Model:
    """The model of a bundle (or of a run that holds one), ready to embed.

    device: auto, cuda, mps or cpu. precision: auto, fp32, bf16 or fp16.
    Raises StorageError where nothing is, DataError for an incomplete or altered bundle, SpecError for a device that
    is not there.
    """
    _check("device", device, get_args(Device))
    _check("precision", precision, get_args(Precision))
    place = pick_device(device)
    loaded = load_bundle(bundle)
    net = loaded.net.to(place).eval()
    header = loaded.header
    arithmetic = choose_precision(precision, place)
    name = str(Address.parse(bundle))  # without a signature
    classifier = loaded.classifier.to(place) if loaded.classifier is not None else None
    return Model(
        net,
        header.image_spec(),
        place,
        arithmetic,
        name,
        header.class_names,
        header.content_hash,
        classifier,
        Decision.of(header) if classifier is not None else None,
    )


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise SpecError("spec.value", f"{name}={value!r}: expected one of {', '.join(known)}", field=name)


def load_backbone(
    spec: BackboneSpec, image: ImageSpec | None, *, device: str = "auto", precision: str = "auto", seed: int = 0
) -> Model:
    """A backbone without any training of ours. Raises as `build_network`."""
    place = pick_device(device)
    image = image or ImageSpec()
    net = build_backbone(spec, image=image, seed=seed, asked="pretrained" in spec.model_fields_set).to(place).eval()
    name = f"{spec.backbone} ({net.origin.source})"
    return Model(net, image, place, choose_precision(precision, place), name)
