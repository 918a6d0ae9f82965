"""What must hold between settings, images and processes, checked before anything is trained."""

import os

import numpy as np
import torch
from torch import nn

from kinsight.data import Records, Sampler
from kinsight.data.sources.lacking import shortened
from kinsight.errors import DataError, SpecError
from kinsight.evaluation.classes import check_ks
from kinsight.evaluation.targets import Targets
from kinsight.parallel.collectives import world_size
from kinsight.parallel.groups import is_main, processes_here, under_launcher
from kinsight.progress import warn
from kinsight.specs.losses import OverPairs, WithMemory
from kinsight.specs.optim import StepSchedule
from kinsight.specs.train import TrainSpec
from kinsight.training.mixing import TOGETHER

_LOOKED_AT, _FEW = 16, 0.5
_PROCESSES_PER_CORE = 4  # on a CPU; more only wait for each other


def check_classes(spec: TrainSpec, records: Records) -> None:
    """Training images can be told apart, and a pair loss finds pairs. Raises DataError."""
    present = int((records.count_C > 0).sum())
    if spec.task == "multilabel" and present == 0:
        raise DataError(
            "data.no-labels",
            f"no image of {records.source} has a label: there is nothing to learn",
            field="data.train",
            remedy="name the column with the labels (data.train.label_column), or those with one label each "
            "(data.train.label_columns)",
        )
    if present < (1 if spec.task == "multilabel" else 2):
        raise DataError(
            "data.one-class",
            f"{records.source} has images of {present} class: there is nothing to tell apart",
            field="data.train",
            remedy="give images of two classes at least; the label follows the image's path",
        )
    if is_main() and records.num_classes > present:
        bare = [records.class_names[number] for number in np.flatnonzero(records.count_C == 0)]
        warn(f"{len(bare):,} of {records.num_classes:,} classes have no image in {records.source}: {shortened(bare)}")
    if isinstance(spec.loss, OverPairs) and records.count_C.max(initial=0) < 2:
        raise DataError(
            "data.no-pairs",
            f"no class of {records.source} has two images, and {spec.loss.kind} compares images of a class",
            field="data.train",
            remedy="give classes of two images at least, or choose a loss over classes, such as am-softmax",
        )


def check_pairs(spec: TrainSpec, sampler: Sampler, targets: Targets) -> None:
    """Batches hold pairs for the losses that compare rows: said where few do. Raises SpecError where none does."""
    losses = [name for name, loss in spec.all_losses().items() if isinstance(loss, OverPairs) and loss.kind != "vicreg"]
    if not losses:
        return
    batches = sampler.epoch(0)[:_LOOKED_AT]
    shares = []
    for batch in batches:
        target = targets.target_N[torch.from_numpy(batch)]
        positive_BB = targets.relation.masks(target, target)[0].positive_AB.fill_diagonal_(False)
        shares.append(float(positive_BB.any(1).float().mean()))
    share = sum(shares) / len(shares)
    remedy = "set sampler.kind=per-class, or use larger batches"
    if share == 0:
        raise SpecError(
            "loss.no-pairs",
            f"in the first {len(batches)} batches no image meets another of its kind: {losses[0]} has nothing to learn "
            "from",
            field=f"sampler.kind={spec.sampler.kind}, batch.size={spec.batch.size}",
            remedy=remedy,
        )
    if share < _FEW and is_main():
        warn(
            f"only {100 * share:.0f} % of the images of a batch meet another of their kind, and {losses[0]} learns "
            f"from those alone: {remedy}"
        )


def check_memories(spec: TrainSpec, records: Records, total_steps: int | None) -> None:
    """A memory holds other images than the batch's, and comes to be used. total_steps: if known. Raises SpecError."""
    for name, loss in {
        "loss": spec.loss,
        **{f"extra_losses[{i}]": one for i, one in enumerate(spec.extra_losses)},
    }.items():
        if not isinstance(loss, WithMemory) or loss.memory is None:
            continue
        if loss.memory.size + spec.batch.size > len(records):
            raise SpecError(
                "loss.memory",
                f"a memory of {loss.memory.size} embeddings and a batch of {spec.batch.size} are more than the "
                f"{len(records)} training images: images would be compared with themselves as they were",
                field=f"{name}.memory.size={loss.memory.size}",
                remedy=f"set it to at most {max(len(records) - spec.batch.size, 0)}, or leave the memory away",
            )
        if total_steps is not None and loss.memory.warmup_steps >= total_steps - 1:
            raise SpecError(
                "loss.memory",
                f"the training has {total_steps} steps, so that a memory warmed up for {loss.memory.warmup_steps} is "
                "never used",
                field=f"{name}.memory.warmup_steps={loss.memory.warmup_steps}",
                remedy="set it to a fraction of the steps, such as a tenth",
            )


def check_freezing(spec: TrainSpec, total_steps: int | None) -> None:
    """What is frozen for some steps comes to be trained. total_steps: if known. Raises SpecError."""
    steps = spec.freeze.steps if spec.freeze is not None else None
    if steps is not None and total_steps is not None and steps >= total_steps:
        raise SpecError(
            "train.never-thaws",
            f"the training has {total_steps} steps, so that what is frozen for {steps} never thaws",
            field=f"freeze.steps={steps}",
            remedy=f"set it below {total_steps}, or leave it out (null) to keep these parts frozen for good",
        )


def tell_never_reached(spec: TrainSpec, total_steps: int | None, steps_per_epoch: int) -> None:
    """Changes of the learning rate that the training ends before. total_steps: if known."""
    schedule = spec.schedule
    if not isinstance(schedule, StepSchedule) or total_steps is None or not is_main():
        return
    unit = steps_per_epoch if schedule.unit == "epochs" else 1
    if vain := [at for at in schedule.at if at * unit >= total_steps]:
        shown = ", ".join(map(str, vain))
        warn(f"schedule.at: {shown} ({schedule.unit}) is never reached: the training ends at step {total_steps:,}")


def check_validation_classes(records: Records) -> None:
    """Something can be retrieved. Raises DataError."""
    if records.count_C.max(initial=0) < 2:
        raise DataError(
            "data.no-pairs",
            f"no class of {records.source} has two images, so nothing can be retrieved",
            field="data.validation",
            remedy="give validation images of which at least two share a class",
        )


def tell_never_drawn(spec: TrainSpec, records: Records) -> None:
    """A sampler that goes by classes passes over images that show none."""
    bare = int((np.diff(records.labels_csr[0]) == 0).sum())
    if bare and spec.sampler.kind != "shuffle" and is_main():
        warn(f"{bare:,} images without labels are never drawn: sampler.kind={spec.sampler.kind} goes by classes")


def tell_balanced_twice(spec: TrainSpec) -> None:
    """A sampler that draws rare classes more often, and a loss that counts their positives more."""
    twice = [name for name, loss in spec.all_losses().items() if getattr(loss, "positive_weight", None) == "balanced"]
    if twice and spec.sampler.kind == "class-balanced" and is_main():
        warn(
            f"{twice[0]}.positive_weight=balanced goes by how often images show a label in the list, and "
            "sampler.kind=class-balanced draws those with rare ones more often: rare labels are favoured twice"
        )


def check_label_validation(spec: TrainSpec, records: Records) -> None:
    """Validation images say what the model is measured by. Raises DataError, SpecError."""
    if spec.task == "classification":
        _ = records.label_N  # names an image of several classes
    elif not records.count_C.any():
        raise DataError(
            "data.no-labels",
            f"no image of {records.source} has a label, so that nothing can be measured",
            field="data.validation",
            remedy="give validation images that show some of the labels",
        )
    if spec.task == "classification":
        check_ks(spec.validate_.classes, records.num_classes, field="validate.classes.ks")
    if spec.validate_.metric == "top5_accuracy" and records.num_classes <= 5:
        raise SpecError(
            "spec.no-effect",
            f"is always 1 with {records.num_classes} classes",
            field="validate.metric=top5_accuracy",
            remedy="set it to accuracy",
        )


def check_processes(spec: TrainSpec, device: torch.device, processes: int) -> None:
    """The processes about to be started have something to do, and this machine can hold them. Raises SpecError."""
    if processes > spec.batch.size:
        raise SpecError(
            "run.batch-too-small",
            f"a batch of {spec.batch.size} images cannot be shared by {processes} processes",
            field=f"nproc={processes}",
            remedy=f"set nproc to at most {spec.batch.size}, or raise batch.size",
        )
    cuda = device.type == "cuda"
    most = torch.cuda.device_count() if cuda else _PROCESSES_PER_CORE * (os.cpu_count() or 1)
    if processes > most:
        what = f"{most} GPUs" if cuda else f"{os.cpu_count()} cores, and each process takes about half a GiB by itself"
        raise SpecError(
            "run.nproc",
            f"this machine has {what}",
            field=f"nproc={processes}",
            remedy=f"set nproc to at most {most}, or leave it away",
        )


def check_ranks(spec: TrainSpec, sampler: Sampler) -> None:
    """Every process gets images of every batch. Raises SpecError."""
    if spec.nproc is not None and under_launcher() and spec.nproc != processes_here():
        raise SpecError(
            "run.nproc",
            f"the launcher has started {processes_here()} processes here",
            field=f"nproc={spec.nproc}",
            remedy="leave nproc away under a launcher",
        )
    smallest = _smallest_batch(sampler)
    together = TOGETHER if spec.mix.kind != "none" else 1
    if -(-smallest // together) < world_size():
        raise SpecError(
            "run.batch-too-small",
            f"a batch of {smallest} images cannot be shared by {world_size()} processes",
            field=f"batch.size={spec.batch.size}",
            remedy="use fewer processes (nproc) or another batch.size",
        )


def check_norms(spec: TrainSpec, sampler: Sampler, net: nn.Module) -> None:
    """A batch norm over single values, not maps, needs two images at once. Raises SpecError."""
    least = _smallest_batch(sampler) // world_size()
    pieces = min(spec.batch.accumulate, least)
    together = least // pieces * (world_size() if spec.sync_batchnorm else 1)
    if together < 2 and any(isinstance(module, nn.BatchNorm1d) for module in net.modules()):
        raise SpecError(
            "run.batch-of-one",
            f"the smallest batch has {together} image at once, too few for the batch normalisation of the neck",
            field=f"batch.size={spec.batch.size}, batch.accumulate={spec.batch.accumulate}",
            remedy="use a larger batch.size, a smaller batch.accumulate, or the linear neck",
        )


def _smallest_batch(sampler: Sampler) -> int:
    return min(len(batch) for batch in sampler.epoch(0))
