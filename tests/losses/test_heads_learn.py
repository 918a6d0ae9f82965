"""Every head learns what can be learned: a linear map over separable points reaches accuracy 1 in a few steps."""

import pytest
import torch
from torch import nn

from kinsight.losses import Objective, build_objective
from kinsight.specs import losses as specs

CLASSES, INPUT, DIM = 8, 16, 12
ARMS: tuple[specs.OverClasses, ...] = (
    specs.Softmax(),
    specs.NormalizedSoftmax(),
    specs.AMSoftmax(),
    specs.CosFace(),
    specs.ArcFace(),
    specs.LargeMarginSoftmax(margin=2),
    specs.SphereFace(margin=2),
    specs.ArcMargin(),
    specs.ArcMargin(easy_margin=True),
    specs.ProxyNCA(),
    specs.ProxyAnchor(),
    specs.SoftTriple(),
    specs.SubCenterArcFace(),
    specs.AdaFace(),
    specs.MagFace(),
)


def _points() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    centre_CI = torch.randn(CLASSES, INPUT, generator=generator)
    label_N = torch.arange(160) % CLASSES
    return centre_CI[label_N] + 0.2 * torch.randn(160, INPUT, generator=generator), label_N


def _name(spec: specs.OverClasses) -> str:
    return f"{spec.kind}-easy" if isinstance(spec, specs.ArcMargin) and spec.easy_margin else spec.kind


@pytest.mark.parametrize("spec", ARMS, ids=_name)
def test_separable_points_are_separated(spec: specs.OverClasses) -> None:
    x_NI, label_N = _points()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Linear(INPUT, DIM)
    objective: Objective = build_objective(spec, num_classes=CLASSES, embedding_dim=DIM)
    optimizer = torch.optim.Adam([*net.parameters(), *objective.parameters()], lr=0.02)
    first = None
    for step in range(150):
        rows = slice(step % 4 * 40, step % 4 * 40 + 40)
        loss, stats = objective(net(x_NI[rows]), label_N[rows])
        first = stats[f"{spec.kind}.accuracy"].item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    objective.eval()
    _, stats = objective(net(x_NI), label_N)
    assert first is not None and first < 0.7, "nothing was to be learned"
    assert stats[f"{spec.kind}.accuracy"].item() == 1
    assert (objective.logits(net(x_NI)).argmax(1) == label_N).all()
