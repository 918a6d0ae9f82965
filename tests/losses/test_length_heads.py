"""AdaFace's running lengths and MagFace's penalty: followed by hand, the same on any number of processes, kept."""

import statistics
from pathlib import Path

import pytest
import torch
from gloo_ranks import Result, own_rows, run_ranks
from torch import Tensor

from kinsight.losses import AdaFace, HeadTerm, MagFace, Objective

CLASSES, DIM = 4, 6


def _steps(number: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(13, DIM, generator=generator, dtype=torch.float64) * (step + 2),
            torch.randint(CLASSES, (13,), generator=generator),
        )
        for step in range(number)
    ]


def _ada(t_alpha: float = 0.3) -> AdaFace:
    return AdaFace(CLASSES, DIM, t_alpha=t_alpha, scale=8).double()


def test_running_mean_and_deviation_by_hand() -> None:
    head, mean, deviation = _ada(), 20.0, 100.0
    for emb_BD, label_B in _steps():
        head(emb_BD, label_B)
        lengths = [float(row.norm()) for row in emb_BD]
        mean += 0.3 * (statistics.fmean(lengths) - mean)
        deviation += 0.3 * (statistics.stdev(lengths) - deviation)
        assert head.length_mean.item() == pytest.approx(mean) and head.length_deviation.item() == pytest.approx(
            deviation
        )


def test_the_step_is_used_before_the_loss() -> None:
    (emb_BD, label_B), head, after = _steps(1)[0], _ada(), _ada()
    loss, _ = head(emb_BD, label_B)
    after.load_state_dict(head.state_dict())
    assert torch.equal(loss, after.eval()(emb_BD, label_B)[0])


def test_measuring_moves_nothing_and_a_checkpoint_holds_it() -> None:
    emb_BD, label_B = _steps(1)[0]
    head = _ada()
    head(emb_BD, label_B)
    kept = {name: value.clone() for name, value in head.state_dict().items()}
    assert {"length_mean", "length_deviation"} <= set(kept)
    head.logits(emb_BD)
    head.eval()(emb_BD, label_B)
    assert all(torch.equal(value, kept[name]) for name, value in head.state_dict().items())


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_images_leave_it_alone(rows: int) -> None:
    emb_BD, label_B = _steps(1)[0]
    head = _ada()
    loss, _ = head(emb_BD[:rows], label_B[:rows])
    assert loss.isfinite() and head.length_mean.item() == 20 and head.length_deviation.item() == 100


def test_rows_that_are_no_numbers_or_have_no_weight_are_not_followed() -> None:
    emb_BD, label_B = _steps(1)[0]
    clean, spoiled, weighted = _ada(), _ada(), _ada()
    clean(emb_BD[2:], label_B[2:])
    with_nan_BD = emb_BD.clone()
    with_nan_BD[:2] = torch.nan
    assert spoiled(with_nan_BD, label_B)[0].isnan(), "the training must stop"
    weighted(emb_BD, label_B, torch.tensor([0.0] * 2 + [0.5] * 11))
    for head in (spoiled, weighted):
        torch.testing.assert_close(head.length_mean, clean.length_mean)
        torch.testing.assert_close(head.length_deviation, clean.length_deviation)


def test_one_length_for_all_gives_the_middle() -> None:
    head = AdaFace(CLASSES, DIM, t_alpha=1.0)
    emb_BD = torch.nn.functional.normalize(_steps(1)[0][0]).float() * 7
    loss, stats = head(emb_BD.requires_grad_(), _steps(1)[0][1])
    loss.backward()
    assert loss.isfinite() and stats["length"].item() == pytest.approx(7)
    assert head.length_mean.item() == pytest.approx(7) and head.length_deviation.item() == pytest.approx(0, abs=1e-5)


def test_short_embeddings_stress_easy_images_and_long_ones_hard_images() -> None:
    """The gradient's share of an image near its class against one far away, at both ends of the lengths."""
    head = AdaFace(2, 2, scale=1).double().eval()
    head.length_mean.fill_(10)
    head.length_deviation.fill_(1)
    with torch.no_grad():
        head.weight_CD.copy_(torch.eye(2))

    def slope(angle_deg: float, length: float) -> float:
        # How the own logit falls with the angle.
        angle = torch.tensor([angle_deg], dtype=torch.float64).deg2rad().requires_grad_()
        emb_BD = length * torch.stack([angle.cos(), angle.sin()], 1)
        margin = head._margin_now(emb_BD, None, lambda tensor: tensor[None])  # pyright: ignore[reportPrivateUsage]
        assert margin is not None
        return -float(torch.autograd.grad(margin(angle.cos()).sum(), angle)[0])

    easy, hard = 40.0, 100.0
    assert slope(easy, length=1) / slope(hard, length=1) > 1.2 * slope(easy, length=50) / slope(hard, length=50)


def test_adaface_passes_no_gradient_to_lengths() -> None:
    emb_BD, label_B = _steps(1)[0]
    head = _ada(t_alpha=1.0)
    loss, _ = head(emb_BD.requires_grad_(), label_B)
    loss.backward()
    assert emb_BD.grad is not None and emb_BD.grad.any()
    torch.testing.assert_close((emb_BD.grad * emb_BD).sum(1), torch.zeros(13, dtype=torch.float64), atol=1e-12, rtol=0)


def test_magface_reward_of_length() -> None:
    """Within l_a and u_a a longer embedding pays less; outside, length has no gradient."""
    head = MagFace(CLASSES, DIM, l_a=2, u_a=9, l_margin_rad=0.3, u_margin_rad=0.3).double()
    direction = torch.ones(1, DIM, dtype=torch.float64) / DIM**0.5

    def slope(length: float) -> float:
        a = torch.tensor(length, dtype=torch.float64, requires_grad=True)
        loss, stats = head(direction * a, torch.tensor([1]))
        assert stats["length"].item() == pytest.approx(length)
        return float(torch.autograd.grad(loss, a)[0])

    assert slope(4.0) == pytest.approx(35 * (-1 / 16 + 1 / 81))
    assert slope(1.0) == pytest.approx(0) and slope(10.0) == pytest.approx(0)


def _worker(rank: int, world: int) -> Result:
    head = _ada()
    objective = Objective([HeadTerm("adaface", 1.0, head)])
    for emb_BD, label_B in _steps():
        objective(own_rows(emb_BD, rank, world), own_rows(label_B, rank, world))
    return {"mean": head.length_mean, "deviation": head.length_deviation}


@pytest.mark.parametrize("world", [2, 4])
def test_running_lengths_are_those_of_all_processes(world: int, tmp_path: Path) -> None:
    head = _ada()
    for emb_BD, label_B in _steps():
        head(emb_BD, label_B)
    results = run_ranks(_worker, world, tmp_path)
    for result in results:
        torch.testing.assert_close(result["mean"], head.length_mean, rtol=1e-12, atol=0)
        torch.testing.assert_close(result["deviation"], head.length_deviation, rtol=1e-12, atol=0)
        assert all(torch.equal(value, results[0][name]) for name, value in result.items()), "to the bit"
