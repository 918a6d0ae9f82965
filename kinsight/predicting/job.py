"""The `predict` job: addresses of images in, what they show out."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinsight import progress, storage
from kinsight.data import ImageLoader, Records
from kinsight.data.given import image_records
from kinsight.data.given_faults import require_given
from kinsight.data.loader import Batch
from kinsight.data.reading import shown
from kinsight.errors import DataError, InterruptedRun, SpecError
from kinsight.evaluation import Model, load
from kinsight.evaluation.finite import NOT_FINITE, finite_rows
from kinsight.evaluation.settings import printed_tree
from kinsight.predicting.parts import Parts
from kinsight.predicting.servers import Servers
from kinsight.specs.load import of
from kinsight.specs.predict import PredictSpec

# What may differ between a job and its continuation: where and how it computes, not what.
_MACHINE = (
    "job", "bundle", "input", "image_column", "output", "batch_size", "workers", "save_seconds", "device", "precision",
    "lines", "unreachable",
)  # fmt: skip
_NAMED = 5  # failed images in messages


def predict(spec: PredictSpec | Mapping[str, Any], *, overwrite: bool = False) -> str:
    """Say what images show; the same as `kinsight predict`. Returns the output's address.

    Images that fail have a line with `error`. A job that was killed is gone on with by the same call. overwrite:
    replace what an earlier job left. Raises KinsightError: SpecError for an output in use, DataError for a bundle
    without classifier, for paths that lead nowhere, lists that cannot be read and where no image has an answer,
    StorageError where servers stop answering, InterruptedRun after Ctrl-C; what is answered by then is kept.
    """
    spec = of(PredictSpec, spec)
    parts = Parts(spec)
    folder = storage.OutputDir(parts.output.parent)  # refuses what cannot be written to before it is asked anything
    _refuse_finished(parts.output, overwrite)
    folder.check_writable()
    require_given(spec.input)
    model = _open(spec)
    records = image_records(spec.input, image_column=spec.image_column)
    if not len(records):
        raise DataError("predict.no-images", "names no image", field="input", remedy="give images, folders or lists")
    parts.claim(_made_from(spec, model, records), overwrite)
    _Job(spec, model, records, parts).run()
    return spec.output


def _refuse_finished(output: storage.Address, overwrite: bool) -> None:
    if storage.is_directory(output):
        raise SpecError("predict.output", "is a folder", field=f"output={output}", remedy="name a file")
    if not overwrite and storage.exists(output):
        raise SpecError(
            "predict.finished",
            "is there already",
            field=f"output={output}",
            remedy="choose another output, or --overwrite to predict anew",
        )


def _open(spec: PredictSpec) -> Model:
    model = load(spec.bundle, device=spec.device, precision=spec.precision)
    if spec.answers == "features":
        return model
    decision = model.need_decision()
    if spec.threshold is None:
        return model
    if decision.threshold_C is None:
        raise SpecError(
            "predict.threshold",
            "has no effect on a bundle of task classification, whose images have one class each",
            field=f"threshold={spec.threshold}",
            remedy="leave it out",
        )
    return replace(model, decision=replace(decision, threshold_C=torch.full_like(decision.threshold_C, spec.threshold)))


def _made_from(spec: PredictSpec, model: Model, records: Records) -> dict[str, Any]:
    """What decides the answers, to the last digit but those of the device."""
    decision = model.decision
    thresholds = None if decision is None or decision.threshold_C is None else decision.threshold_C.tolist()
    told = {name: value for name, value in printed_tree(spec).items() if name not in _MACHINE}
    return {
        "settings": told,
        "model": model.content_hash,
        "class_names": list(model.class_names),
        "temperature": decision.temperature if decision is not None else None,
        "thresholds": thresholds,
        "precision": model.arithmetic.name,
        "images": records.fingerprint,
    }


class _Job:
    """One run over the images that have no answer yet."""

    def __init__(self, spec: PredictSpec, model: Model, records: Records, parts: Parts) -> None:
        self.spec, self.model, self.records, self.parts = spec, model, records, parts
        self.servers = Servers(records, parts.answered_N)
        self.waiting: list[dict[str, Any]] = []
        self.doubtful: list[dict[str, Any]] = []  # of silent servers, while it is open whether to go on
        self.failed, self.named = parts.failed, list[tuple[str, str]]()  # how many, and the first of them here

    def run(self) -> None:
        try:
            with progress.task("predict", len(self.records), "images") as task:
                if self.parts.done:
                    task.skip_to(self.parts.done)
                self._answer_all(task)
                self._keep()
                self._save()
        except KeyboardInterrupt:
            with suppress(KeyboardInterrupt):
                self._save()
            raise InterruptedRun(
                "predict.interrupted",
                f"stopped; {self.parts.done:,} of {len(self.records):,} images have their answers",
                field=f"output={self.spec.output}",
                remedy="give the same command again to go on",
            ) from None
        except BaseException:
            with suppress(Exception):
                self._save()
            raise
        if self.parts.failed == len(self.records):
            self._refuse_nothing()
        several = self.model.decision is not None and self.model.decision.several
        self.parts.publish(several=several)
        self._conclude()

    def _answer_all(self, task: progress.Task) -> None:
        saved = time.monotonic()
        starts = range(self.parts.done, len(self.records), self.spec.batch_size)
        wanted = [np.arange(start, min(start + self.spec.batch_size, len(self.records))) for start in starts]
        loader = ImageLoader(self.records, self.model.image, workers=self.spec.workers, max_broken=None, labelled=False)
        with loader:
            for index_B, batch in zip(wanted, loader.batches((0, index_B) for index_B in wanted), strict=True):
                errors, silent = loader.take_broken()
                self._add(index_B, self._lines(index_B, batch, errors), silent)
                task.advance(len(index_B), **({"failed": self.failed} if self.failed else {}))
                if time.monotonic() - saved >= self.spec.save_seconds:
                    self._save()
                    saved = time.monotonic()

    def _add(self, index_B: np.ndarray, lines: list[dict[str, Any]], silent: set[int]) -> None:
        """Lines of silent servers wait until it is known whether they are to be kept, or asked for once more."""
        self.doubtful += lines
        reason = lines[-1].get("error", "")
        if self.spec.unreachable == "skip" or self.servers.note(index_B, silent, reason):
            self._keep()

    def _keep(self) -> None:
        failed = [(line["image"], line["error"]) for line in self.doubtful if "error" in line]
        self.failed += len(failed)
        self.named += failed[: max(0, _NAMED - len(self.named))]
        self.waiting += self.doubtful
        self.doubtful = []

    def _lines(self, index_B: np.ndarray, batch: Batch, errors: dict[int, str]) -> list[dict[str, Any]]:
        found = dict(zip(batch.index_B.tolist(), self._answers(batch.images_BCHW), strict=True)) if len(batch) else {}
        return [
            {"image": shown(self.records.uri(index)), **(found[index] if index in found else {"error": errors[index]})}
            for index in index_B.tolist()
        ]

    def _answers(self, images_BCHW: Tensor) -> list[dict[str, Any]]:
        model, spec = self.model, self.spec
        with torch.inference_mode(), model.arithmetic.autocast():
            emb_BD = model.net(images_BCHW.to(model.device, non_blocking=True)).float()
            logit_BC = model.classifier(emb_BD).cpu() if model.classifier is not None else None
        finite_B = finite_rows(emb_BD, logit_BC)
        answers: list[dict[str, Any]] = [{} for _ in range(len(emb_BD))]
        if spec.answers != "features":
            assert logit_BC is not None, "a decision has been asked for"
            answers = list(model.need_decision().answers(logit_BC, top_k=spec.top_k))
        if spec.answers != "classes":
            for answer, row in zip(answers, emb_BD.cpu().tolist(), strict=True):
                answer["feature"] = row
        return [answer if finite else {"error": NOT_FINITE} for answer, finite in zip(answers, finite_B, strict=True)]

    def _save(self) -> None:
        answers, self.waiting = self.waiting, []  # first: Ctrl-C in between must not keep them twice
        if answers:
            self.parts.add(answers)

    def _refuse_nothing(self) -> None:
        """An output of errors alone would stand in the way of the next try. Raises DataError."""
        self._tell_failed()
        self.parts.give_up()
        raise DataError(
            "predict.no-answer",
            f"none of {len(self.records):,} images has an answer; the lines that say why are kept in "
            f"{self.parts.folder}",
            field=f"output={self.spec.output}",
            remedy="mend the images or their addresses, then give the same command again",
        )

    def _tell_failed(self) -> None:
        count = self.parts.failed
        for address, reason in self.named:
            progress.warn(f"{address}: {reason}")
        if count > len(self.named):
            progress.warn(f"{count:,} images have no answer in all, their lines say why (error)")

    def _conclude(self) -> None:
        count = self.parts.failed
        self._tell_failed()
        answered, total = len(self.records) - count, len(self.records)
        progress.say(f"predicted   {answered:,} of {total:,} images in {self.parts.output}")
