"""Class weights that another training left, as those to begin with."""

from collections.abc import Sequence

from kinsight import storage
from kinsight.errors import SpecError
from kinsight.evaluation.class_weights import read_class_weights
from kinsight.losses import Objective
from kinsight.parallel.groups import is_main
from kinsight.progress import warn
from kinsight.specs.train import TrainSpec


def start_head(objective: Objective, spec: TrainSpec, class_names: Sequence[str]) -> None:
    """Take class weights over from `head.init_from`; those of other classes or shapes are left out, which is said.

    Raises SpecError where it has none, or another loss's, and as `read_class_weights`.
    """
    assert spec.head.init_from is not None and objective.head is not None, "the spec has seen to it"
    place, found = storage.Address.parse(spec.head.init_from), read_class_weights(spec.head.init_from)
    if found is None:
        raise _no_class_weights(f"{place}: holds no class weights; bundles and runs without snapshots have none")
    if found.loss.kind != spec.loss.kind:
        raise _no_class_weights(f"{place}: its class weights are {found.loss.kind}'s, not {spec.loss.kind}'s")
    ours = {name: value.shape for name, value in objective.head.state_dict().items()}
    if found.class_names != tuple(class_names):
        why = f"they are of {len(found.class_names):,} classes, which are not the {len(class_names):,} of these images"
    elif {name: value.shape for name, value in found.state.items()} != ours:
        why = "their shapes differ"
    else:
        objective.head.load_state_dict(found.state)
        return
    if is_main():
        warn(f"{place}: its class weights are left out: {why}")


def _no_class_weights(message: str) -> SpecError:
    return SpecError(
        "train.class-weights",
        message,
        field="head.init_from",
        remedy="give RUN/snapshots/N of a training with the same loss and with `snapshots`, or leave it out for "
        "random class weights",
    )
