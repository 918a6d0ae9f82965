"""Spec -> objective."""

from collections import Counter
from collections.abc import Sequence
from typing import assert_never

from kinsight.losses.adaface import AdaFace
from kinsight.losses.angle_multiple import LargeMarginSoftmax, SphereFace
from kinsight.losses.arcface import ArcFace
from kinsight.losses.arcmargin import ArcMargin
from kinsight.losses.cosine_margin import AMSoftmax, CosFace
from kinsight.losses.head import ClassHead
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
        pairs = Pairs(embedding_dim, target_shape)
        return _build_term(spec, spec.kind + suffix, num_classes, seed_here, pairs)

    terms = [term(loss)]
    if loss.ce is not None:
        terms.append(_build_ce(loss.ce, num_classes, embedding_dim, aux_dim, mixed_seed(seed, 0)))
    for spec in extra:
        assert spec.ce is None, "the cross-entropy term belongs to the main loss"
        terms.append(term(spec))
    return Objective(terms, relation=relation, group=group)


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
