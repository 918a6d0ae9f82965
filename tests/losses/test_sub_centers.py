"""Several centres a class: dominant sub-centres find wrong labels; SoftTriple draws a class's centres together."""

import math

import pytest
import torch
from torch import Tensor

from kinsight.errors import DataError, SpecError
from kinsight.losses import SoftTriple, SubCenterArcFace

CLASSES, DIM = 3, 8


def _noisy() -> tuple[SubCenterArcFace, Tensor, Tensor]:
    """Each class: 40 images at sub-centre 1, 5 at sub-centre 2 (of another kind), none at 0; class 2 has no image."""
    head = SubCenterArcFace(CLASSES, DIM, seed=1).double()
    with torch.no_grad():
        head.weight_CD.copy_(torch.linalg.qr(torch.randn(9, 9, generator=torch.Generator().manual_seed(0)))[0][:, :DIM])
    rows = [(label * 3 + centre, label) for label in (0, 1) for centre in [1] * 40 + [2] * 5]
    noise_ND = torch.randn(len(rows), DIM, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 0.02
    emb_ND = head.weight_CD.detach()[[row for row, _ in rows]] + noise_ND
    return head, emb_ND * 5, torch.tensor([label for _, label in rows])


def test_dominant_centres_and_angles() -> None:
    head, emb_ND, target_N = _noisy()
    found = head.dominant_centres(emb_ND, target_N)
    assert found.centre_C.tolist() == [1, 1, -1]
    for x, label, angle in zip(emb_ND, target_N.tolist(), found.angle_deg_N.tolist(), strict=True):
        row = head.weight_CD.detach()[label * 3 + 1]
        assert angle == pytest.approx(math.degrees(math.acos(float(x @ row / (x.norm() * row.norm())))))
    wrong_N = found.angle_deg_N > 60
    assert wrong_N.tolist() == ([False] * 40 + [True] * 5) * 2


def test_dominant_centres_of_many_and_of_no_images() -> None:
    head, emb_ND, target_N = _noisy()
    once = head.dominant_centres(emb_ND, target_N)
    often = head.dominant_centres(emb_ND.repeat(60, 1), target_N.repeat(60))  # several blocks
    assert torch.equal(often.centre_C, once.centre_C)
    torch.testing.assert_close(often.angle_deg_N, once.angle_deg_N.repeat(60))
    none = head.dominant_centres(emb_ND[:0], target_N[:0])
    assert none.centre_C.tolist() == [-1] * 3 and none.angle_deg_N.shape == (0,)
    zero = head.float().dominant_centres(torch.zeros(1, DIM, dtype=torch.bfloat16), torch.tensor([0]))
    assert zero.angle_deg_N.tolist() == pytest.approx([90])


def test_dominant_centres_refuse_what_training_refuses() -> None:
    head, emb_ND, target_N = _noisy()
    with pytest.raises(DataError, match="label 3"):
        head.dominant_centres(emb_ND, target_N + 2)
    with pytest.raises(SpecError, match="expected"):
        head.dominant_centres(emb_ND[:, 1:], target_N)


def test_wrong_labels_leave_the_dominant_sub_centre_in_training() -> None:
    """A tenth of each class's images belong to another class: after a short training they lie far away."""
    generator = torch.Generator().manual_seed(0)
    kinds_KD = torch.nn.functional.normalize(torch.randn(6, 32, generator=generator))
    kind_N = torch.arange(600) % 6
    emb_ND = kinds_KD[kind_N] + torch.randn(600, 32, generator=generator) * 0.05
    wrong_N = torch.rand(600, generator=generator) < 0.1
    target_N = torch.where(wrong_N, (kind_N + 1 + torch.randint(5, (600,), generator=generator)) % 6, kind_N)
    head = SubCenterArcFace(6, 32, margin_deg=10, scale=16)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        head(emb_ND, target_N)[0].backward()
        optimizer.step()
    angle_deg_N = head.dominant_centres(emb_ND, target_N).angle_deg_N
    assert angle_deg_N[wrong_N].min() > angle_deg_N[~wrong_N].max()


def test_soft_triple_pull_draws_centres_together_until_they_meet() -> None:
    head = SoftTriple(CLASSES, DIM, centres=3, tau=0.5)

    def pull() -> Tensor:
        return head(torch.zeros(2, DIM), torch.tensor([0, 1]))[0]

    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    before = pull().item()
    for _ in range(50):
        optimizer.zero_grad()
        pull().backward()
        optimizer.step()
    assert pull().item() < before - 0.2
    with torch.no_grad():
        head.weight_CD.copy_(torch.ones(9, DIM) * torch.rand(9, 1).clamp_min(0.1))
    optimizer.zero_grad()
    pull().backward()
    assert head.weight_CD.grad is not None and head.weight_CD.grad.isfinite().all()
