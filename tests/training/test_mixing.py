"""Mixed images: shares, rectangles and targets by hand; nothing but seed, epoch and image decides."""

import numpy as np
import pytest
import torch

from kinsight.specs.tasks import Cutmix, Mixup, NoMix
from kinsight.training.mixing import local_rows, mix_images, mixed_labels

IMAGES = (torch.arange(5 * 3 * 16 * 16) % 251).to(torch.uint8).view(5, 3, 16, 16)
LABEL_B = torch.tensor([0, 1, 2, 3, 4])
INDEX_B = torch.tensor([10, 3, 7, 8, 1])


def test_nothing_to_mix() -> None:
    mixed = mix_images(NoMix(), IMAGES, LABEL_B, seed=0, epoch=0, index_B=INDEX_B)
    assert mixed.images_BCHW is IMAGES and mixed.classes is None


def test_mixup() -> None:
    mixed = mix_images(Mixup(alpha=1), IMAGES, LABEL_B, seed=0, epoch=3, index_B=INDEX_B)
    assert mixed.classes is not None
    other_B, share_B = mixed.classes
    assert other_B.tolist() == [1, 0, 3, 2, 4] and share_B[4] == 1
    mates = IMAGES.float()[[1, 0, 3, 2, 4]]
    expected = share_B[:, None, None, None] * IMAGES.float() + (1 - share_B[:, None, None, None]) * mates
    torch.testing.assert_close(mixed.images_BCHW, expected, rtol=1e-5, atol=1e-3)
    assert torch.equal(mixed.images_BCHW[4], IMAGES[4].float())
    assert len(set(share_B.tolist())) == 5


def test_cutmix() -> None:
    mixed = mix_images(Cutmix(), IMAGES, LABEL_B, seed=0, epoch=1, index_B=INDEX_B)
    assert mixed.classes is not None and mixed.images_BCHW.dtype == torch.uint8
    other_B, share_B = mixed.classes
    for i, mate in enumerate(other_B.tolist()):
        from_mate = (mixed.images_BCHW[i] != IMAGES[i]).any(0)
        assert torch.equal(mixed.images_BCHW[i][:, from_mate], IMAGES[mate][:, from_mate])
        rows, columns = from_mate.any(1), from_mate.any(0)
        assert torch.equal(from_mate, rows[:, None] & columns[None])  # one rectangle
        assert share_B[i].item() == pytest.approx(1 - from_mate.float().mean().item())
    assert share_B[4] == 1 and share_B[:4].min() > 0 and share_B[:4].max() < 1


def test_only_seed_epoch_and_image_decide() -> None:
    def shares(index: list[int], *, seed: int = 0, epoch: int = 0) -> list[float]:
        found = mix_images(Mixup(), IMAGES[: len(index)], LABEL_B[: len(index)], seed=seed, epoch=epoch,
                           index_B=torch.tensor(index))  # fmt: skip
        assert found.share_B is not None
        return found.share_B.tolist()

    assert shares([5, 6, 7, 8])[2:] == shares([7, 8])
    assert shares([5, 6]) != shares([5, 6], epoch=1) != shares([5, 6], seed=1)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_are_beta(alpha: float) -> None:
    rows = 4000
    mixed = mix_images(Mixup(alpha=alpha), torch.zeros(rows, 1, 1, 1), torch.zeros(rows, dtype=torch.int64), seed=0,
                       epoch=0, index_B=torch.arange(rows))  # fmt: skip
    assert mixed.share_B is not None
    assert mixed.share_B.mean().item() == pytest.approx(0.5, abs=0.02)
    assert mixed.share_B.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)


def test_targets_of_many_labels() -> None:
    """min(1, 2 w) of a label with share w; unknown where it matters what an unknown one is."""
    own = torch.tensor([[1.0, 1.0, 0.0, -1.0, -1.0, -1.0, 0.0]])
    mate = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0, -1.0, 0.0]])
    half = mixed_labels(own, mate, torch.tensor([0.5]))
    assert half.tolist() == [[1, 1, 1, 1, -1, -1, 0]]  # the union; a label that one shows is there whatever the other
    fifth = mixed_labels(own, mate, torch.tensor([0.2]))
    torch.testing.assert_close(fifth, torch.tensor([[1.0, 0.4, 1.0, 1.0, -1.0, -1.0, 0.0]]))
    most = mixed_labels(own, mate, torch.tensor([0.9]))
    torch.testing.assert_close(most, torch.tensor([[1.0, 1.0, 0.2, -1.0, -1.0, -1.0, 0.0]]))
    alone = mixed_labels(own, mate, torch.tensor([1.0]))
    assert torch.equal(alone, own)


def test_mixing_many_labels_mixes_targets() -> None:
    target_BC = torch.eye(5)
    mixed = mix_images(Cutmix(), IMAGES, target_BC, seed=0, epoch=1, index_B=INDEX_B)
    single = mix_images(Cutmix(), IMAGES, LABEL_B, seed=0, epoch=1, index_B=INDEX_B)
    assert mixed.classes is None and single.share_B is not None
    torch.testing.assert_close(mixed.target, mixed_labels(target_BC, target_BC[[1, 0, 3, 2, 4]], single.share_B))


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [8, 9, 13])
def test_pairs_stay_together(world: int, rows: int) -> None:
    indices = np.arange(rows) * 10
    parts = [local_rows(indices, rank, world, together=2) for rank in range(world)]
    assert np.concatenate(parts).tolist() == indices.tolist()
    assert all(len(part) % 2 == 0 for part in parts[:-1])
    assert [part.tolist() for part in parts] != [] and min(map(len, parts)) > 0
    plain = [local_rows(indices, rank, world).tolist() for rank in range(world)]
    assert plain == [part.tolist() for part in np.array_split(indices, world)]
