"""From users' vectors to the vectors that lists are found in.

Lists are found by squared distance whatever the metric: rows are scaled to unit length under cosine; under inner
product with rows of different lengths one coordinate is added that makes them equally long (Bachrach et al. 2014), and
queries get 0 there, so that the nearest row is the one of largest product. A query's length says nothing of its order
of rows: under inner product queries are brought to the rows' length. Principal components then shorten both.

What the components leave out of a vector stays as one number more. Where the rest of a query has length q, that of a
row x, and c is the mean cosine between the rests of a query and its neighbours, the squared distance of the rests is
about q^2 - 2 c q x + x^2: (c q - x)^2, but for what is the same for all rows. So rows keep x, and queries c q.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from kinsight.errors import DataError
from kinsight.neighbors import Metric, Projection, fit_projection
from kinsight.neighbors.vectors import row_norms
from kinsight.partition.truth import nearest_in_blocks

_NO_LENGTH = 1e-30
_UNEVEN = 0.02  # relative difference from the even length that lists still bear
_ASKING, _ANSWERS = 500, 10  # queries and neighbours of each that the likeness of what is left out is measured by
_EVEN = 1e-3  # relative spread of lengths up to which they count as equal


@dataclass(frozen=True)
class Space:
    """metric: as the user named it. longest: the length that rows under ip are brought to; 0: no coordinate is added.
    projection: None keeps all dimensions. even: under ip without that coordinate, the length of all rows; 0: not known.
    likeness: the mean cosine between what the projection leaves out of a query and of its neighbours, from 0 to 1;
    None: that is dropped.
    """

    metric: Metric
    dim: int
    longest: float
    projection: Projection | None
    even: float = 0.0
    likeness: float | None = None

    @property
    def routed_dim(self) -> int:
        """Length of the vectors that are routed."""
        if self.projection is None:
            return self.dim + bool(self.longest)
        return self.projection.axes_DE.shape[1] + (self.likeness is not None)

    @property
    def multiply_adds(self) -> int:
        """Of bringing one query here."""
        if self.projection is None:
            return 0
        return self.projection.axes_DE.numel() + (0 if self.likeness is None else self.dim)

    def tensors(self) -> dict[str, Tensor]:
        """What `from_tensors` builds it from again."""
        found = {name: torch.tensor(getattr(self, name), dtype=torch.float64) for name in ("longest", "even")}
        if (fitted := self.projection) is not None:
            found |= {"mean": fitted.mean_D, "axes": fitted.axes_DE, "variance": fitted.variance_E}
        if self.likeness is not None:
            found["likeness"] = torch.tensor(self.likeness, dtype=torch.float64)
        return found

    @classmethod
    def from_tensors(cls, metric: Metric, dim: int, found: dict[str, Tensor]) -> "Space":
        """The space that gave these tensors."""
        projection = None
        if "axes" in found:
            projection = Projection(found["mean"], found["axes"], found["variance"], 1.0, False)
        likeness = float(found["likeness"]) if "likeness" in found else None
        return cls(metric, dim, float(found["longest"]), projection, float(found["even"]), likeness)

    @property
    def whole(self) -> "Space":
        """The same without principal components: its squared distances rank as the metric does."""
        return Space(self.metric, self.dim, self.longest, None, self.even)

    @property
    def ranks_by_product(self) -> bool:
        """Whether products of routed vectors order as squared distances do: all have one length."""
        return self.metric != "l2" and not self.longest and self.projection is None

    def rows(self, vector_ND: Tensor) -> Tensor:
        """Vectors to be stored, float32 (N, routed_dim). Raises DataError for NaN, zero under cosine, another
        dimension, and under ip for vectors longer than those learned from.
        """
        vector_ND, norm_N = self._scaled(vector_ND, "vectors")
        self._refuse_other_lengths(norm_N)
        if self.longest:
            rest_N = (self.longest**2 - norm_N.square()).clamp_min(0).sqrt()
            vector_ND = torch.cat([vector_ND, rest_N[:, None].to(vector_ND)], 1)
        return self._projected(vector_ND, 0, 1.0)

    def queries(self, query_QD: Tensor) -> Tensor:
        """Queries, float32 (Q, routed_dim). Raises as `rows`."""
        return self.ready_queries(self._scaled(query_QD, "queries")[0])

    def ready_queries(self, query_QD: Tensor) -> Tensor:
        """As `queries`, of float32 rows that are finite, of the right length, and of unit length under cosine."""
        if self.metric == "ip" and (length := self.longest or self.even):
            query_QD = query_QD * (
                length / query_QD.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
            )
        if self.projection is not None:
            return self._projected(query_QD, int(self.longest > 0), self.likeness or 0.0)
        if self.longest:
            return torch.cat([query_QD, query_QD.new_zeros(len(query_QD), 1)], 1)
        return query_QD

    def _scaled(self, vector_ND: Tensor, name: str) -> tuple[Tensor, Tensor]:
        if vector_ND.ndim != 2 or vector_ND.shape[1] != self.dim:
            raise DataError(
                "partition.dimension",
                f"{name} are {tuple(vector_ND.shape)}, the partition is of vectors of length {self.dim}",
                remedy="give vectors of the same model",
            )
        norm_N = row_norms(vector_ND, name, self.metric)
        vector_ND = vector_ND.float()
        return (vector_ND / norm_N[:, None].float() if self.metric == "cosine" else vector_ND), norm_N

    def _refuse_other_lengths(self, norm_N: Tensor) -> None:
        if self.metric != "ip" or not (self.longest or self.even):
            return
        if self.longest:
            wrong_N, expected = norm_N > self.longest * (1 + _EVEN), f"up to {self.longest:.4g}"
        else:
            wrong_N, expected = (norm_N / self.even - 1).abs() > _UNEVEN, f"{self.even:.4g}, all alike"
        if bool(wrong_N.any()):
            row = int(wrong_N.int().argmax())
            raise DataError(
                "partition.length",
                f"a vector has length {float(norm_N[row]):.4g}, those the partition was learned from {expected} "
                f"({int(wrong_N.sum()):,} of {len(norm_N):,} here)",
                remedy="learn the partition from vectors that include such, or under metric cosine",
            )

    def _projected(self, vector_ND: Tensor, missing: int, share: float) -> Tensor:
        """missing: coordinates at the end that are zero and not given. share: of the length of what is left out."""
        if self.projection is None:
            return vector_ND
        axes_DE, offset_E, mean_D = (each.to(vector_ND.device) for each in self._affine)
        given = len(axes_DE) - missing
        component_NE = torch.addmm(offset_E, vector_ND, axes_DE[:given])
        if self.likeness is None:
            return component_NE
        whole_N = (vector_ND - mean_D[:given]).square_().sum(1) + mean_D[given:].square().sum()
        rest_N = (whole_N - component_NE.square().sum(1)).clamp_min_(0).sqrt_()
        return torch.cat([component_NE, share * rest_N[:, None]], 1)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor, Tensor]:
        """Axes, what is added to the product with them, and the mean, in float32: routing needs no more digits."""
        assert self.projection is not None
        mean_D, axes_DE = self.projection.mean_D, self.projection.axes_DE
        return axes_DE.float(), -(mean_D @ axes_DE).float(), mean_D.float()


def fit_space(
    vector_ND: Tensor,
    metric: Metric,
    components: int | None,
    length_N: Tensor | None = None,
    query_QD: Tensor | None = None,
) -> Space:
    """The space for such vectors; components: dimensions to keep, the last of them for the length of what the others
    leave out. length_N: of all vectors that will be stored, where `vector_ND` is only some of them; needed under ip.
    query_QD: what will be searched for; default: vectors like these. Raises DataError, SpecError as `fit_projection`.
    """
    dim = vector_ND.shape[1]
    longest = even = 0.0
    if metric == "ip":
        length_N = row_norms(vector_ND, "vectors", metric) if length_N is None else length_N
        if float(length_N.std()) > _EVEN * float(length_N.mean()):
            longest = float(length_N.max())
        else:
            even = float(length_N.mean())
    whole = Space(metric, dim, longest, None, even)
    if components is None or components == whole.routed_dim:
        return whole
    if components == 1:  # too few for two kinds of numbers
        return replace(whole, projection=fit_projection(whole.rows(vector_ND), 1, normalize=False))
    projection = fit_projection(whole.rows(vector_ND), components - 1, normalize=False)
    space = replace(whole, projection=projection, likeness=1.0)
    return replace(space, likeness=_likeness(space, vector_ND, query_QD))


def _likeness(space: Space, vector_ND: Tensor, query_QD: Tensor | None) -> float:
    """Mean cosine between what is left out of some queries and of their neighbours, longer ones counting more."""
    assert space.projection is not None
    axes_DE, mean_D = space.projection.axes_DE.float(), space.projection.mean_D.float()
    asked = vector_ND if query_QD is None else query_QD
    number_Q = torch.arange(0, len(asked), max(1, len(asked) // _ASKING))
    row_ND, asked_QD = space.whole.rows(vector_ND), space.whole.queries(asked[number_Q])
    own_Q = number_Q if query_QD is None else None
    near_QK = nearest_in_blocks(asked_QD, [(0, row_ND)], min(_ANSWERS, len(vector_ND) - 1), own_Q=own_Q)
    shared = lengths = 0.0
    for asked_D, near_K in zip(asked_QD, near_QK, strict=True):
        centred_KD = torch.cat([asked_D[None], row_ND[near_K]]) - mean_D
        rest_KD = centred_KD - (centred_KD @ axes_DE) @ axes_DE.T
        shared += float((rest_KD[1:] @ rest_KD[0]).sum())
        lengths += float(rest_KD[1:].norm(dim=1).sum() * rest_KD[0].norm())
    return min(1.0, max(0.0, shared / lengths)) if lengths else 0.0
