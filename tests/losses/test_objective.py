"""Specs become objectives: every arm builds, trains all its parameters and survives JSON; terms add up as weighted."""

import subprocess
import sys

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from kinsight.errors import SpecError
from kinsight.losses import AMSoftmax, Objective, SmoothedCrossEntropy, Softmax, SupCon, build_objective
from kinsight.specs import losses as specs

ADAPTER: TypeAdapter[specs.Loss] = TypeAdapter(specs.Loss)
ARMS = {
    spec.kind: spec
    for spec in (
        specs.Softmax(),
        specs.NormalizedSoftmax(temperature=0.1),
        specs.AMSoftmax(),
        specs.CosFace(margin=0.2),
        specs.ArcFace(margin_deg=30),
        specs.LargeMarginSoftmax(margin=3),
        specs.SphereFace(scale=2.0),
        specs.ArcMargin(margin_rad=0.3, easy_margin=True),
        specs.ProxyNCA(),
        specs.ProxyAnchor(alpha=16),
        specs.SoftTriple(centres=3),
        specs.SubCenterArcFace(centres=2),
        specs.AdaFace(t_alpha=0.5),
        specs.MagFace(l_a=1.5, u_a=5),
        specs.SupCon(),
        specs.Contrastive(positive_margin=0.1, margin=1.5),
        specs.Triplet(),
        specs.MultiSimilarity(),
        specs.Circle(),
        specs.InfoNCE(),
        specs.SigmoidPairs(),
        specs.SmoothAP(temperature=0.1),
        specs.RecallAtK(temperature=0.1),
        specs.FastAP(),
        specs.Eml(),
        specs.Quadruplet(),
        specs.NPairs(),
        specs.VICReg(),
        specs.Bce(positive_weight=2.0),
        specs.Focal(),
        specs.Asl(clip=0.1),
        specs.TwoWay(),
    )
}
OVER_LABELS = {kind for kind, spec in ARMS.items() if isinstance(spec, specs.OverLabels)}
PARTS = {"contrastive": {"positive_pairs", "negative_pairs"}, "triplet": {"triplets"}, "info-nce": {"positive_pairs"}}
PARTS |= {kind: set[str]() for kind in ("quadruplet", "npairs", "vicreg")}
PARTS |= {kind: {"accuracy", "length"} for kind in ("adaface", "magface")}
CLASSES, DIM, AUX_DIM = 6, 8, 5


def _build(loss: specs.Loss, *extra: specs.Loss, aux_dim: int | None = None, seed: int = 0) -> Objective:
    return build_objective(
        loss, num_classes=CLASSES, embedding_dim=DIM, aux_dim=aux_dim, extra=extra, seed=seed
    ).double()


def _batch(rows: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    emb_BD = torch.randn(rows, DIM, generator=generator, dtype=torch.float64)
    aux_BD = torch.randn(rows, AUX_DIM, generator=generator, dtype=torch.float64)
    return emb_BD, aux_BD, torch.randint(CLASSES, (rows,), generator=generator)


def test_the_table_holds_every_arm() -> None:
    mapping = ADAPTER.json_schema()["discriminator"]["mapping"]
    assert set(mapping) == set(ARMS)


@pytest.mark.parametrize(
    ("kind", "with_ce"), [(kind, ce) for kind in ARMS for ce in (False, True) if not (ce and kind in OVER_LABELS)]
)
def test_arm_builds_trains_and_round_trips(kind: str, with_ce: bool) -> None:
    spec = ARMS[kind].model_copy(update={"ce": specs.CrossEntropyTerm()} if with_ce else {})
    assert ADAPTER.validate_json(ADAPTER.dump_json(spec)) == spec
    objective = _build(spec, aux_dim=AUX_DIM)
    emb_BD, aux_BD, target_B = _batch()
    emb_BD.requires_grad_()
    aux_BD.requires_grad_()
    target = torch.nn.functional.one_hot(target_B, CLASSES) if kind in OVER_LABELS else target_B
    loss, stats = objective(emb_BD, target, aux_BD=aux_BD)
    loss.backward()
    assert loss.dtype == torch.float64 and loss.isfinite() and loss > 0
    for tensor in (emb_BD, *([aux_BD] if with_ce else []), *objective.parameters()):
        assert tensor.grad is not None and tensor.grad.isfinite().all() and tensor.grad.any()
    told = PARTS.get(kind, {"accuracy"} if objective.head is not None else {"anchors"})
    names = {"loss", f"{kind}.loss"} | {f"{kind}.{name}" for name in told}
    assert set(stats) == names | ({"ce.loss", "ce.accuracy"} if with_ce else set())
    assert all(value.dim() == 0 and not value.requires_grad for value in stats.values())


@pytest.mark.parametrize("kind", ARMS)
def test_logits_come_from_the_main_head(kind: str) -> None:
    objective = _build(ARMS[kind])
    emb_BD, _, _ = _batch()
    if objective.head is None:
        with pytest.raises(SpecError, match="no class scores"):
            objective.logits(emb_BD)
    else:
        assert torch.equal(objective.logits(emb_BD), objective.head.logits(emb_BD))
        assert objective.logits(emb_BD).shape == (len(emb_BD), CLASSES)


def test_terms_add_up_as_weighted_on_their_inputs() -> None:
    main = specs.AMSoftmax(weight=0.5, ce=specs.CrossEntropyTerm(weight=2.0))
    objective = _build(main, specs.SupCon(weight=0.25), specs.Softmax(), specs.Softmax(weight=3.0), aux_dim=AUX_DIM)
    emb_BD, aux_BD, target_B = _batch()
    loss, stats = objective(emb_BD, target_B, aux_BD=aux_BD)
    weights = {"am-softmax": 0.5, "ce": 2.0, "supcon": 0.25, "softmax": 1.0, "softmax-2": 3.0}
    torch.testing.assert_close(loss, sum((w * stats[f"{name}.loss"] for name, w in weights.items()), start=loss * 0))

    heads = [module for module in objective.modules() if isinstance(module, AMSoftmax | SmoothedCrossEntropy | Softmax)]
    assert torch.equal(stats["am-softmax.loss"], heads[0](emb_BD, target_B)[0])
    assert torch.equal(stats["ce.loss"], heads[1](aux_BD, target_B)[0])
    torch.testing.assert_close(stats["supcon.loss"], SupCon(0.1)(emb_BD, target_B))
    counts = target_B.bincount(minlength=CLASSES)
    assert stats["supcon.anchors"].item() == counts[counts > 1].sum().item()
    assert not torch.equal(heads[2].weight_CD, heads[3].weight_CD), "two terms of a kind start apart"


def test_cross_entropy_reads_the_embeddings_without_auxiliary_features() -> None:
    objective = _build(specs.AMSoftmax(ce=specs.CrossEntropyTerm()))
    emb_BD, aux_BD, target_B = _batch()
    _, stats = objective(emb_BD, target_B, aux_BD=aux_BD)
    ce = next(module for module in objective.modules() if isinstance(module, SmoothedCrossEntropy))
    assert torch.equal(stats["ce.loss"], ce(emb_BD, target_B)[0])


def test_missing_auxiliary_features_are_an_error() -> None:
    objective = _build(specs.AMSoftmax(ce=specs.CrossEntropyTerm()), aux_dim=AUX_DIM)
    emb_BD, _, target_B = _batch()
    with pytest.raises(SpecError, match="auxiliary features"):
        objective(emb_BD, target_B)


@pytest.mark.parametrize("weighted", [False, True])
def test_pieces_of_a_step_sum_to_the_step(weighted: bool) -> None:
    objective = _build(specs.AMSoftmax(ce=specs.CrossEntropyTerm()))
    emb_BD, _, target_B = _batch(10)
    # Weights are normalised within a piece, so the pieces' sums must agree for the whole to be met.
    weight_B = torch.tensor([0.5, 1.5] * 5, dtype=torch.float64) if weighted else None
    whole, whole_stats = objective(emb_BD, target_B, sample_weight_B=weight_B)
    pieces = [
        objective(
            emb_BD[rows], target_B[rows], global_batch=10, sample_weight_B=None if weight_B is None else weight_B[rows]
        )
        for rows in (slice(0, 4), slice(4, 8), slice(8, 10))
    ]
    torch.testing.assert_close(sum(loss for loss, _ in pieces), whole)
    for name, value in whole_stats.items():
        torch.testing.assert_close(sum(stats[name] for _, stats in pieces), value)


def test_equal_seeds_give_equal_objectives() -> None:
    spec = specs.AMSoftmax(ce=specs.CrossEntropyTerm())
    one, same, other = (dict(_build(spec, seed=seed).named_parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name]) for name in one)


def test_a_batch_without_positive_pairs_says_so() -> None:
    objective = _build(specs.SupCon())
    emb_BD, _, _ = _batch(4)
    loss, stats = objective(emb_BD.requires_grad_(), torch.arange(4))
    loss.backward()
    assert loss.item() == 0 and stats["supcon.anchors"].item() == 0
    assert emb_BD.grad is not None and not emb_BD.grad.any()


def test_labels_beyond_num_classes_are_fine_for_pairs_alone() -> None:
    emb_BD, _, target_B = _batch()
    assert _build(specs.SupCon())(emb_BD, target_B + 1000)[0] > 0


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"kind": "softmax", "margin": 0.1}, "softmax.margin"),
        ({"kind": "normalized-softmax", "scale": 30}, "normalized-softmax.scale"),
        ({"kind": "arcface", "margin": 0.5}, "arcface.margin"),
        ({"kind": "arcface", "margin_deg": 91}, "arcface.margin_deg"),
        ({"kind": "sphereface", "margin": 2.5}, "sphereface.margin"),
        ({"margin": -0.1}, "am-softmax.margin"),
        ({"kind": "arcmargin", "margin_deg": 8.6}, "arcmargin.margin_deg"),
        ({"kind": "arcmargin", "margin_rad": 8.6}, "arcmargin.margin_rad"),
        ({"kind": "proxy-nca", "scale": 9}, "proxy-nca.scale"),
        ({"kind": "proxy-anchor", "alpha": 0}, "proxy-anchor.alpha"),
        ({"kind": "soft-triple", "centres": 1}, "soft-triple.centres"),
        ({"kind": "sub-center-arcface", "centres": 1}, "sub-center-arcface.centres"),
        ({"kind": "adaface", "t_alpha": 1.5}, "adaface.t_alpha"),
        ({"kind": "magface", "l_a": 110, "u_a": 10}, "magface"),
        ({"kind": "magface", "l_margin_rad": 0.9}, "magface"),
        ({"scale": 0}, "am-softmax.scale"),
        ({"weight": 0}, "am-softmax.weight"),
        ({"kind": "supcon", "temperature": 0}, "supcon.temperature"),
        ({"ce": {"smoothing": 1}}, "am-softmax.ce.smoothing"),
        ({"kind": "nonesuch"}, ""),
    ],
)
def test_settings_without_effect_or_out_of_bounds_are_refused(wrong: dict[str, object], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_python(wrong)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])) == place


def test_no_kind_means_am_softmax() -> None:
    assert ADAPTER.validate_python({"margin": 0.2}) == specs.AMSoftmax(margin=0.2)


def test_importing_losses_needs_torch_numpy_and_pydantic_alone() -> None:
    heavy = ["torchvision", "timm", "pyarrow", "faiss", "fsspec", "rich", "PIL", "matplotlib", "yaml", "safetensors"]
    code = f"import sys, kinsight.losses; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
