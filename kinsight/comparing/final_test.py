"""The test images, used once, when all runs are finished: the models of each fold alone, and of all folds together.

As in Musgrave et al. 2020, section 3.4: separate is the mean over the folds' models, concatenated joins their unit
vectors, whose cosine is the mean of the folds' cosines.
"""

import json
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kinsight import storage
from kinsight.comparing.runs import METRICS, Run
from kinsight.data import ImageLoader, Records, read_records, require_images
from kinsight.errors import DataError
from kinsight.evaluation import load
from kinsight.evaluation.embedding import embed_records
from kinsight.metrics import retrieval_metrics
from kinsight.specs.compare import CompareSpec
from kinsight.specs.data import DataSpec

FOLDER = "test"


def read_test_records(spec: CompareSpec, training: Records) -> Records | None:
    """The test images, if there are any, checked.

    Raises DataError where nothing could be retrieved, or some of them are among the training images.
    """
    if spec.test is None:
        return None
    records = read_records(spec.test, own_vocabulary=True)
    require_images(records, spec.test, field="test")
    _ = records.label_N  # one label each, or an error
    if records.count_C.max(initial=0) < 2:
        raise DataError(
            "data.no-pairs",
            f"no class of {records.source} has two images, so nothing can be retrieved",
            field="test",
            remedy="give test images of which at least two share a class",
        )
    _refuse_seen(records, training)
    return records


def shared_names(records: Records, training: Records) -> str | None:
    """What to say where classes of both have the same name; they may be others all the same, such as "0" and "1"."""
    trained = _names(training)
    tested = _names(records)
    if not (both := sorted(tested & trained)):
        return None
    return (
        f"{len(both):,} of the {len(tested):,} class names are names of training classes too, such as {both[0]!r}: "
        "if they mean the same classes, models are not measured on new ones"
    )


def _names(records: Records) -> set[str]:
    """Of the classes that have images."""
    return {name for name, count in zip(records.class_names, records.count_C.tolist(), strict=True) if count}


def _refuse_seen(records: Records, training: Records) -> None:
    seen = set(_images(training))
    if not (both := [number for number, image in enumerate(_images(records)) if image in seen]):
        return
    raise DataError(
        "compare.test-seen",
        f"{len(both):,} of the {len(records):,} images of {records.source} are training images too, such as "
        f"{storage.Address.parse(records.uri(both[0]))}: models would be tested on what they have learned",
        field="test",
        remedy="give images of classes that are not in base.data.train, or leave test away: the classes held out of "
        "each fold measure the candidates already",
    )


def _images(records: Records) -> Iterator[str]:
    """Each image's address; local folders by their real paths."""
    real = cache(os.path.realpath)
    for uri in records.uris.to_pylist():
        address = storage.Address.parse(uri) if uri.startswith("file:") else None
        path = address.path if address is not None else uri
        if "://" not in path:
            folder, name = os.path.split(path)
            path = f"{real(folder)}/{name}"
        yield path


class FinalTest:
    """Measures models on the test images; results are kept, so that an interruption costs one group of models."""

    def __init__(self, records: Records, output: storage.Address) -> None:
        self._records, self._output = records, output.child(FOLDER)
        self._loader: ImageLoader | None = None
        self._prepared_for: dict[str, Any] | None = None

    def measure(self, runs: list[Run], advance: Callable[[], None]) -> dict[str, Any]:
        """`separate`: metrics of each run's model, in order; `concatenated`: of all together.

        runs: one for each fold, of one candidate and seed. advance: called after each model.
        """
        name = f"{runs[0].candidate}-seed-{runs[0].seed}.json"
        models = [load(run.spec.output, device=run.spec.device, precision=run.spec.precision) for run in runs]
        made_from = [self._records.fingerprint, *(model.content_hash for model in models)]
        if (known := self._known(name, made_from)) is not None:
            return known
        separate, parts, label_N = [], [], self._records.label_N
        for run, model in zip(runs, models, strict=True):
            loader = self._open(run.spec.data)
            found = embed_records(model.net, loader, model.device, model.arithmetic)
            label_N = self._records.label_N[found.index_N]  # unreadable images are the same for every model
            parts.append(F.normalize(found.emb_ND, dim=1))
            separate.append(_metrics(found.emb_ND, label_N, model.device))
            advance()
        together = _metrics(torch.cat(parts, 1), label_N, models[0].device)
        result = {"made_from": made_from, "separate": separate, "concatenated": together}
        storage.write_text(self._output.child(name), json.dumps(result, indent=1) + "\n")
        return result

    def _known(self, name: str, made_from: list[Any]) -> dict[str, Any] | None:
        place = self._output.child(name)
        if not storage.exists(place):
            return None
        known = json.loads(storage.read_text(place))
        return known if known.get("made_from") == made_from else None

    def _open(self, data: DataSpec) -> ImageLoader:
        """Reads the images as a network of these settings wants them; kept in memory from one model to the next."""
        wanted = data.model_dump(include={"image_size", "color", "crop"})
        if self._loader is None or wanted != self._prepared_for:
            self.close()
            self._prepared_for = wanted
            self._loader = ImageLoader(
                self._records, data, workers=data.workers, max_broken=data.max_broken, cache=data.cache
            )
            self._loader.fill()
        return self._loader

    def close(self) -> None:
        """End the processes that read images."""
        if self._loader is not None:
            self._loader.close()
            self._loader = None


def _metrics(emb_ND: Tensor, label_N: np.ndarray, device: torch.device) -> dict[str, float]:
    found = retrieval_metrics(emb_ND, label_N, ks=(1,), device=device)
    return {name: found.means[name] for name in METRICS}
