"""From a spec to everything the loop needs, cheap checks first: nothing is trained before all of them have passed."""

import warnings

import torch

from kinsight.data import (
    ImageLoader,
    Records,
    Sampler,
    build_device_augment,
    build_sampler,
)
from kinsight.data.multi_hot import MultiHot
from kinsight.evaluation.targets import Targets
from kinsight.losses import build_objective
from kinsight.models import (
    EmbeddingNet,
    build_network,
    check_model,
    has_published_weights,
    natural_embedding_dim,
)
from kinsight.parallel.batchnorm import convert
from kinsight.parallel.collectives import rank, world_size
from kinsight.parallel.device import choose_precision
from kinsight.parallel.groups import is_main, processes_here
from kinsight.progress import say, warn
from kinsight.specs.data import Augment
from kinsight.specs.train import TrainSpec
from kinsight.training.averaging import WeightAverage
from kinsight.training.budget import Budget
from kinsight.training.checkpoint import initial_weights
from kinsight.training.checks import (
    check_freezing,
    check_memories,
    check_norms,
    check_pairs,
    check_ranks,
    tell_balanced_twice,
    tell_never_drawn,
    tell_never_reached,
)
from kinsight.training.freezing import Freezer
from kinsight.training.images import read_training_records, read_validation
from kinsight.training.label_targets import LabelTargets, class_counts, targets_of
from kinsight.training.optimizers import build_optimizer
from kinsight.training.prepared import Learner, Prepared
from kinsight.training.schedules import with_warmup
from kinsight.training.start_head import start_head
from kinsight.training.state import Training


def settled(spec: TrainSpec) -> TrainSpec:
    """The spec with its defaults decided: weights are null for a network that has no published ones, or starts from a
    bundle (where the user asked for them by name, building the network says what is wrong); without a neck the
    embedding is as long as the backbone's features.
    """
    model = spec.model
    if model.has_own_length:
        model = model.model_copy(update={"embedding_dim": natural_embedding_dim(model, spec.data)})
        spec = spec.model_copy(update={"model": model})
    if model.pretrained != "default" or "pretrained" in model.model_fields_set:
        return spec
    if model.init_from is None:
        if has_published_weights(model.backbone):
            return spec
        warn(f"{model.backbone} has no published weights: it starts from random ones")
    return spec.model_copy(update={"model": model.model_copy(update={"pretrained": None})})


def prepare(spec: TrainSpec, device: torch.device) -> Prepared:
    """Read the lists, check everything that can be checked, build the objects. Raises KinsightError."""
    check_model(spec.model, spec.data)
    arithmetic = choose_precision(spec.precision, device)
    records = read_training_records(spec)
    validation = read_validation(spec, records)
    sampler = _sampler(spec, records)
    tell_never_drawn(spec, records)
    tell_balanced_twice(spec)
    steps_per_epoch = sampler.num_batches
    budget = Budget.of(spec, steps_per_epoch)
    spec = spec.model_copy(update={"schedule": with_warmup(spec.schedule, budget.steps)})
    check_memories(spec, records, budget.steps)
    check_freezing(spec, budget.steps)
    tell_never_reached(spec, budget.steps, steps_per_epoch)
    check_ranks(spec, sampler)
    targets = targets_of(spec, records)
    if isinstance(targets, Targets):
        check_pairs(spec, sampler, targets)
    net, training = _build_training(spec, records, targets, device)
    assert isinstance(training.learner, Learner), "nothing wraps it yet"
    freezer = Freezer(spec.freeze, net, training.learner.objective)
    check_norms(spec, sampler, net)
    if spec.sync_batchnorm and world_size() > 1:
        convert(net)
    loader = _loader(spec, records, spec.data.augment)
    reader = _loader(spec, validation, None) if validation is not None else None
    augment = build_device_augment(spec.data.augment, seed=spec.seed)
    prepared = Prepared(
        spec=spec,
        device=device,
        arithmetic=arithmetic,
        records=records,
        sampler=sampler,
        loader=loader,
        augment=augment,
        validation=reader,
        net=net,
        targets=targets,
        freezer=freezer,
        training=training,
        steps_per_epoch=steps_per_epoch,
        budget=budget,
    )
    if is_main():
        _introduce(prepared, validation)
    return prepared


def _sampler(spec: TrainSpec, records: Records) -> Sampler:
    """The sampler; its remarks are said once."""
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        sampler = build_sampler(spec.sampler, records, batch_size=spec.batch.size, seed=spec.seed)
    if is_main():
        for remark in remarks:
            warn(str(remark.message))
    return sampler


def _loader(spec: TrainSpec, records: Records, augment: Augment | None) -> ImageLoader:
    """A loader for this rank; `data.workers` are per machine, shared by the processes on it."""
    here = processes_here()
    return ImageLoader(
        records,
        spec.data,
        augment=augment,
        seed=spec.seed,
        workers=-(-spec.data.workers // here),
        cache=spec.data.cache,
        max_broken=spec.data.max_broken,
        processes=here,
        labelled=False,  # what losses read is looked up by record number
    )


def _build_training(
    spec: TrainSpec, records: Records, targets: Targets | LabelTargets, device: torch.device
) -> tuple[EmbeddingNet, Training]:
    with_aux = spec.loss.ce is not None
    initial = initial_weights(spec.model.init_from) if spec.model.init_from is not None else None
    net = build_network(spec.model, image=spec.data, seed=spec.seed, with_aux=with_aux, asked=True, initial=initial)
    objective = build_objective(
        spec.loss,
        num_classes=max(records.num_classes, 1),
        embedding_dim=spec.model.embedding_dim,
        aux_dim=spec.model.embedding_dim if with_aux else None,
        extra=spec.extra_losses,
        seed=spec.seed,
        relation=targets.relation,
        target_shape=targets.shape,
        long_tail=spec.long_tail,
        counts=class_counts(spec, records, targets),
    )
    if spec.head.init_from is not None:
        start_head(objective, spec, records.class_names)
    net.to(device).train()
    objective.to(device).train()
    learner = Learner(net, objective, compiled=spec.model.compile)
    optimizer = build_optimizer(spec.optimizer, net, objective)
    averaged = net if spec.task == "metric" else learner
    average = WeightAverage(averaged, spec.ema.decay) if spec.ema is not None else None
    scaler = choose_precision(spec.precision, device).scaler()
    # What is drawn from here on (dropout) differs between the ranks, as it does between the parts of one batch.
    torch.manual_seed(spec.seed + 1_000_003 * rank())
    return net, Training(learner, optimizer, average, scaler)


def _introduce(prepared: Prepared, validation: Records | None) -> None:
    spec, arithmetic = prepared.spec, prepared.arithmetic
    for records in (prepared.records, validation):
        for note in records.notes if records is not None else ():
            warn(note)
    weights = sum(parameter.numel() for parameter in prepared.net.parameters())
    say(f"images      {len(prepared.records):,} of {prepared.records.num_classes:,} classes")
    if isinstance(prepared.targets, LabelTargets):
        say(f"labels      {prepared.targets.words(prepared.records)}")
    if validation is not None:
        say(f"validation  {len(validation):,} images {_told_classes(spec, validation)}, by {spec.validate_.metric}")
    else:
        say("validation  none: no early stopping, and the last model counts as the best")
    say(f"network     {spec.model.backbone}, {weights:,} weights, at first {prepared.net.origin.source or 'random'}")
    if prepared.net.origin.licence:
        say(f"licence     the first weights are under {prepared.net.origin.licence}")
    say(
        f"computing   {prepared.device} in {arithmetic.name} ({arithmetic.why}), {world_size()} process(es) of "
        f"{torch.get_num_threads()} thread(s); {prepared.budget.words(spec.batch.size)}"
    )
    steps = prepared.budget.steps
    if steps is not None and (spec.schedule.warmup_steps or 0) >= steps:
        there = "is 1 step" if steps == 1 else f"are {steps:,} steps"
        warn(
            f"schedule.warmup_steps={spec.schedule.warmup_steps}, but there {there}: the "
            f"learning rate never reaches optimizer.lr={spec.optimizer.lr}"
        )


def _told_classes(spec: TrainSpec, records: Records) -> str:
    """How many classes images show, or of how many labels anything is known: those learnt may be more."""
    total, several = records.num_classes, spec.task == "multilabel"
    found = int(((MultiHot(records).known_C if several else records.count_C) > 0).sum())
    if found == total:
        return f"of {total:,} classes"
    return f"of which {found:,} of {total:,} labels are known" if several else f"of {found:,} of {total:,} classes"
