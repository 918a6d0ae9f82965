"""Spec -> objective."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, assert_never

from torch import Tensor

from kinsight.losses.adaface import AdaFace
from kinsight.losses.angle_multiple import LargeMarginSoftmax, SphereFace
from kinsight.losses.arcface import ArcFace
from kinsight.losses.arcmargin import ArcMargin
from kinsight.losses.asl import Asl
from kinsight.losses.bce import Bce
from kinsight.losses.cosine_margin import AMSoftmax, CosFace
from kinsight.losses.focal import Focal
from kinsight.losses.head import ClassHead
from kinsight.losses.label_head import LabelHead
from kinsight.losses.long_tail import apply_long_tail, balancing_weights
from kinsight.losses.magface import MagFace
from kinsight.losses.numerics import mixed_seed
from kinsight.losses.objective import HeadTerm, Objective, Term
from kinsight.losses.pair_terms import Pairs, build_pair_term
from kinsight.losses.proxy_anchor import ProxyAnchor
from kinsight.losses.proxy_nca import ProxyNCA
from kinsight.losses.smoothed_cross_entropy import SmoothedCrossEntropy
from kinsight.losses.soft_triple import SoftTriple
from kinsight.losses.softmax import NormalizedSoftmax, Softmax
from kinsight.losses.sub_center_arcface import SubCenterArcFace
from kinsight.losses.two_way import TwoWay
from kinsight.parallel.collectives import Group
from kinsight.relations import Relation, SameLabel
from kinsight.specs import losses as specs
from kinsight.specs.tasks import EqualClasses, LongTail

_SAME_LABEL = SameLabel()
_EQUAL_CLASSES = EqualClasses()


class ClassCounts(NamedTuple):
    """Of the training images, both int64 (C,): how many show each class, and of how many that is known."""

    count_C: Tensor
    known_C: Tensor


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
    long_tail: LongTail = _EQUAL_CLASSES,
    counts: ClassCounts | None = None,
) -> Objective:
    """The main loss, its cross-entropy term if it has one, and the extra terms, each with class weights of its own.

    relation: how losses over pairs read the targets. target_shape: of one image's target, () for a class id.
    long_tail: how rare classes count in the main loss. counts: what that, and balanced positives, go by; without them
    classes count alike, as for a head that is only to predict.
    aux_dim: length of the auxiliary features the cross-entropy term reads; None: it reads the embeddings.
    Terms are named by their kind ("am-softmax", "ce"), a second one of a kind with "-2". Equal seeds: equal weights.
    Raises SpecError when a loss over classes has fewer than two of them.
    """
    numbers: Counter[str] = Counter()

    def term(spec: specs.Loss) -> Term:
        numbers[spec.kind] += 1
        suffix = f"-{numbers[spec.kind]}" if numbers[spec.kind] > 1 else ""
        seed_here = mixed_seed(seed, numbers.total())
        name, sizes = spec.kind + suffix, (num_classes, embedding_dim)
        if isinstance(spec, specs.OverPairs):
            return build_pair_term(spec, name, Pairs(embedding_dim, target_shape))
        if isinstance(spec, specs.OverLabels):
            return HeadTerm(name, spec.weight, _build_label_head(spec, *sizes, seed_here, counts))
        return HeadTerm(name, spec.weight, _build_head(spec, *sizes, seed_here))

    terms = [term(loss)]
    if counts is not None and isinstance(terms[0], HeadTerm):
        apply_long_tail(long_tail, terms[0].head, counts.count_C, counts.known_C)
    if loss.ce is not None:
        terms.append(_build_ce(loss.ce, num_classes, embedding_dim, aux_dim, mixed_seed(seed, 0)))
    for spec in extra:
        assert spec.ce is None, "the cross-entropy term belongs to the main loss"
        terms.append(term(spec))
    return Objective(terms, relation=relation, group=group)


def _build_head(spec: specs.OverClasses, num_classes: int, embedding_dim: int, seed: int) -> ClassHead:
    sizes = (num_classes, embedding_dim)
    match spec:
        case specs.Softmax():
            return Softmax(*sizes, smoothing=spec.smoothing, seed=seed)
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
        case specs.ArcMargin():
            margin = {"margin_rad": spec.margin_rad, "easy_margin": spec.easy_margin}
            return ArcMargin(*sizes, scale=spec.scale, seed=seed, **margin)
        case specs.ProxyNCA():
            return ProxyNCA(*sizes, temperature=spec.temperature, seed=seed)
        case specs.ProxyAnchor():
            return ProxyAnchor(*sizes, margin=spec.margin, alpha=spec.alpha, seed=seed)
        case specs.SoftTriple():
            centres = {"centres": spec.centres, "gamma": spec.gamma, "tau": spec.tau}
            return SoftTriple(*sizes, margin=spec.margin, scale=spec.scale, seed=seed, **centres)
        case specs.SubCenterArcFace():
            margin_deg = spec.margin_deg
            return SubCenterArcFace(*sizes, centres=spec.centres, margin_deg=margin_deg, scale=spec.scale, seed=seed)
        case specs.AdaFace():
            return AdaFace(*sizes, margin=spec.margin, h=spec.h, t_alpha=spec.t_alpha, scale=spec.scale, seed=seed)
        case specs.MagFace():
            lengths = {"l_a": spec.l_a, "u_a": spec.u_a, "lambda_g": spec.lambda_g}
            margins = {"l_margin_rad": spec.l_margin_rad, "u_margin_rad": spec.u_margin_rad}
            return MagFace(*sizes, scale=spec.scale, seed=seed, **lengths, **margins)
    assert_never(spec)


def _build_label_head(
    spec: specs.OverLabels, num_classes: int, embedding_dim: int, seed: int, counts: ClassCounts | None
) -> LabelHead:
    sizes = (num_classes, embedding_dim)
    match spec:
        case specs.Bce():
            weight: float | Tensor = 1.0
            if isinstance(spec.positive_weight, float):
                weight = spec.positive_weight
            elif spec.positive_weight == "balanced" and counts is not None:
                weight = balancing_weights(*counts)
            return Bce(*sizes, positive_weight=weight, seed=seed)
        case specs.Focal():
            return Focal(*sizes, gamma=spec.gamma, alpha=spec.alpha, seed=seed)
        case specs.Asl():
            gammas = {"gamma_positive": spec.gamma_positive, "gamma_negative": spec.gamma_negative}
            return Asl(*sizes, clip=spec.clip, seed=seed, **gammas)
        case specs.TwoWay():
            positive, negative = spec.positive_temperature, spec.negative_temperature
            return TwoWay(*sizes, positive_temperature=positive, negative_temperature=negative, seed=seed)
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
