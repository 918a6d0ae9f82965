"""Lists to begin with: k-means in blocks on any device, and lists of less uneven size.

Shapes: N vectors, L lists, D dimensions, B vectors of a block.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Advance = Callable[[int], None]  # told how many rounds are done
_NUMBERS = 1 << 25
"""Distances held at once: 128 MB of float32."""


@dataclass(frozen=True)
class Clusters:
    """A vector belongs to the list with the least squared distance plus price; under spherical ones centres have
    length 1. centre_LD: float32. price_L: float32, zeros where nothing was balanced.
    """

    centre_LD: Tensor
    price_L: Tensor

    @property
    def offset_L(self) -> Tensor:
        """What is taken from a product with a centre: the list of most (product - offset) is the vector's."""
        return (self.centre_LD.square().sum(1) + self.price_L) / 2

    def to(self, device: torch.device) -> "Clusters":
        """The same on a device."""
        return Clusters(self.centre_LD.to(device), self.price_L.to(device))

    def assign(self, vector_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Each vector's list, int64 (N,), and its squared distance to the centre, float32 (N,)."""
        list_N = torch.empty(len(vector_ND), dtype=torch.int64, device=vector_ND.device)
        distance_N = torch.empty(len(vector_ND), device=vector_ND.device)
        offset_L = self.offset_L
        for here in _blocks(len(vector_ND), len(offset_L)):
            score_BL = torch.addmm(-offset_L, vector_ND[here], self.centre_LD.T)
            score_B, list_N[here] = score_BL.max(1)
            price_B = self.price_L[list_N[here]]
            distance_N[here] = (vector_ND[here].square().sum(1) - 2 * score_B - price_B).clamp_min(0)
        return list_N, distance_N


def k_means(
    vector_ND: Tensor,
    lists: int,
    *,
    iterations: int,
    spherical: bool,
    generator: torch.Generator,
    advance: Advance | None = None,
) -> Clusters:
    """Lloyd's rounds from centres drawn among the vectors; a list that has lost all vectors takes half of a full one.

    vector_ND: float32, N >= lists. spherical: centres get length 1 after each round (Dhillon and Modha 2001).
    generator: of the CPU.
    """
    assert len(vector_ND) >= lists, (len(vector_ND), lists)
    first_L = torch.randperm(len(vector_ND), generator=generator)[:lists].to(vector_ND.device)
    found, before_N = _clusters(vector_ND[first_L], spherical), None
    for done in range(iterations):
        list_N, _ = found.assign(vector_ND)
        if before_N is not None and torch.equal(list_N, before_N) and len(list_N.unique()) == lists:
            if advance is not None:
                advance(iterations - done)  # nothing moves any more: further rounds would change nothing
            break
        before_N = list_N
        found = _clusters(_means(vector_ND, list_N, found.centre_LD, generator), spherical)
        if advance is not None:
            advance(1)
    return found


def balance(
    vector_ND: Tensor, clusters: Clusters, *, rounds: int, rate: float, advance: Advance | None = None
) -> Clusters:
    """Raise the price of lists by the log of how full they are, round by round, in units of the mean squared distance.

    Forcing equal sizes costs neighbours: a few rounds at a low rate even out the largest lists alone.
    """
    lists, price_L = len(clusters.price_L), clusters.price_L.clone()
    for _ in range(rounds):
        list_N, distance_N = Clusters(clusters.centre_LD, price_L).assign(vector_ND)
        size_L = torch.bincount(list_N, minlength=lists).clamp_min(1)
        price_L += rate * distance_N.mean() * (size_L * lists / len(vector_ND)).log()
        if advance is not None:
            advance(1)
    return Clusters(clusters.centre_LD, price_L)


def _clusters(centre_LD: Tensor, spherical: bool) -> Clusters:
    if spherical:
        centre_LD = torch.nn.functional.normalize(centre_LD, dim=1)
    return Clusters(centre_LD, torch.zeros(len(centre_LD), device=centre_LD.device))


def _means(vector_ND: Tensor, list_N: Tensor, before_LD: Tensor, generator: torch.Generator) -> Tensor:
    total_LD = torch.zeros_like(before_LD).index_add_(0, list_N, vector_ND)
    size_L = torch.bincount(list_N, minlength=len(before_LD))
    mean_LD = total_LD / size_L.clamp_min(1)[:, None]
    empty_E = (size_L == 0).nonzero().squeeze(1)
    if len(empty_E):
        _split(mean_LD, size_L, empty_E, vector_ND.std(), generator)
    return mean_LD


def _split(centre_LD: Tensor, size_L: Tensor, empty_E: Tensor, spread: Tensor, generator: torch.Generator) -> None:
    """Empty lists take the place of full ones, a little to the side; in proportion to size above one, at random."""
    weight_L = (size_L - 1).clamp_min(0).cpu().double()  # MPS has no float64
    if not weight_L.any():  # as many vectors as lists, some alike: nothing to divide
        return
    donor_E = torch.multinomial(weight_L, len(empty_E), replacement=True, generator=generator).to(centre_LD.device)
    noise_ED = torch.randn(len(empty_E), centre_LD.shape[1], generator=generator).to(centre_LD.device)
    centre_LD[empty_E] = centre_LD[donor_E] + noise_ED * (spread * 1e-3)


def _blocks(number: int, width: int) -> list[slice]:
    rows = max(1, _NUMBERS // width)
    return [slice(start, start + rows) for start in range(0, number, rows)]
