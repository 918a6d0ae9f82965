"""Spec -> objective."""

from collections import Counter
from collections.abc import Sequence
from typing import assert_never

from kinsight.losses.angle_multiple import LargeMarginSoftmax, SphereFace
from kinsight.losses.arcface import ArcFace
from kinsight.losses.cosine_margin import AMSoftmax, CosFace
from kinsight.losses.head import ClassHead
from kinsight.losses.numerics import mixed_seed
from kinsight.losses.objective import HeadTerm, Objective, Term
from kinsight.losses.pair_terms import Pairs, build_pair_term
from kinsight.losses.smoothed_cross_entropy import SmoothedCrossEntropy
from kinsight.losses.softmax import NormalizedSoftmax, Softmax
from kinsight.parallel.collectives import Group
from kinsight.relations import Relation, SameLabel
from kinsight.specs import losses as specs

_SAME_LABEL = SameLabel()


def build_objective(
    loss: specs.Loss,
    *,
    num_classes: int,
    embedding_dim: int,
    aux_dim: int | None = None,
    extra: Sequence[specs.Loss] = (),
    seed: int = 0,
    group: Group = None,
    relation: Relation = _SAME_LABEL,
    target_shape: tuple[int, ...] = (),
) -> Objective:
    """The main loss, its cross-entropy term if it has one, and the extra terms, each with class weights of its own.

    relation: how losses over pairs read the targets. target_shape: of one image's target, () for a class id.
    aux_dim: length of the auxiliary features the cross-entropy term reads; None: it reads the embeddings.
    Terms are named by their kind ("am-softmax", "ce"), a second one of a kind with "-2". Equal seeds: equal weights.
    Raises SpecError when a loss over classes has fewer than two of them.
    """
    numbers: Counter[str] = Counter()

    def term(spec: specs.Loss) -> Term:
        numbers[spec.kind] += 1
        suffix = f"-{numbers[spec.kind]}" if numbers[spec.kind] > 1 else ""
        seed_here = mixed_seed(seed, numbers.total())
        pairs = Pairs(relation, embedding_dim, target_shape)
        return _build_term(spec, spec.kind + suffix, num_classes, seed_here, pairs)

    terms = [term(loss)]
    if loss.ce is not None:
        terms.append(_build_ce(loss.ce, num_classes, embedding_dim, aux_dim, mixed_seed(seed, 0)))
    for spec in extra:
        assert spec.ce is None, "the cross-entropy term belongs to the main loss"
        terms.append(term(spec))
    return Objective(terms, group=group)


def _build_term(spec: specs.Loss, name: str, num_classes: int, seed: int, pairs: Pairs) -> Term:
    if isinstance(spec, specs.OverPairs):
        return build_pair_term(spec, name, pairs)
    return HeadTerm(name, spec.weight, _build_head(spec, num_classes, pairs.embedding_dim, seed))


def _build_head(spec: specs.OverClasses, num_classes: int, embedding_dim: int, seed: int) -> ClassHead:
    sizes = (num_classes, embedding_dim)
    match spec:
        case specs.Softmax():
            return Softmax(*sizes, seed=seed)
        case specs.NormalizedSoftmax():
            return NormalizedSoftmax(*sizes, temperature=spec.temperature, seed=seed)
        case specs.AMSoftmax():
            return AMSoftmax(*sizes, margin=spec.margin, scale=spec.scale, seed=seed)
        case specs.CosFace():
            return CosFace(*sizes, margin=spec.margin, scale=spec.scale, seed=seed)
        case specs.ArcFace():
            return ArcFace(*sizes, margin_deg=spec.margin_deg, scale=spec.scale, seed=seed)
        case specs.LargeMarginSoftmax():
            return LargeMarginSoftmax(*sizes, margin=spec.margin, scale=spec.scale, seed=seed)
        case specs.SphereFace():
            return SphereFace(*sizes, margin=spec.margin, scale=spec.scale, seed=seed)
    assert_never(spec)


def _build_ce(
    spec: specs.CrossEntropyTerm, num_classes: int, embedding_dim: int, aux_dim: int | None, seed: int
) -> HeadTerm:
    head = SmoothedCrossEntropy(
        num_classes,
        embedding_dim if aux_dim is None else aux_dim,
        temperature=spec.temperature,
        smoothing=spec.smoothing,
        seed=seed,
    )
    return HeadTerm("ce", spec.weight, head, reads_aux=aux_dim is not None)
