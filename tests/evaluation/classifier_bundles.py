"""Bundles with classifiers of the small set's classes, good but not perfect, made without training."""

from functools import partial
from pathlib import Path

import torch
from PIL import Image
from small_set import NAMES, picture

from kinsight.data.crops import evaluation_crop
from kinsight.data.decode import square
from kinsight.models import Classifier, ClassifierForm, build_network, make_header, save_bundle
from kinsight.specs.data import ImageSpec
from kinsight.specs.model import ModelSpec

IMAGE = ImageSpec(image_size=16, crop=1.0)
DIM, LEARNT_FROM = 64, range(100, 130)


def make_classifier(
    folder: Path, *, task: str, names: tuple[str, ...] = NAMES, sharpness: float = 12.0, **header: object
) -> Path:
    """Ridge regression on a random network's embeddings. sharpness: the larger, the surer of itself."""
    model = ModelSpec(backbone="conv4", pretrained=None, embedding_dim=DIM)
    net = build_network(model, image=IMAGE, seed=0).eval()
    labels = range(len(names))
    images = [[_pixels(label, number) for number in LEARNT_FROM] for label in labels]
    with torch.no_grad():
        emb_ND = torch.cat([net(torch.stack(each)) for each in images]).double()
    x_N1 = torch.cat([emb_ND / emb_ND.std(), torch.ones(len(emb_ND), 1)], dim=1)
    wanted_NC = torch.eye(len(names)).repeat_interleave(len(LEARNT_FROM), 0).double() - 0.5
    found_1C = torch.linalg.solve(x_N1.T @ x_N1 + 0.1 * torch.eye(DIM + 1), x_N1.T @ wanted_NC) * sharpness
    weight_CD, bias_C = (found_1C[:-1] / emb_ND.std()).T.float(), found_1C[-1].float()
    form = ClassifierForm(num_classes=len(names), embedding_dim=DIM)
    told = make_header(net, model=model, image=IMAGE, task=task, class_names=names)  # type: ignore[arg-type]
    save_bundle(folder, net, told.model_copy(update=header), Classifier.of(form, weight_CD, bias_C))
    return folder


def _pixels(label: int, number: int) -> torch.Tensor:
    return square(Image.fromarray(picture(label, number)), partial(evaluation_crop, share=1.0), size=16, channels=3)
