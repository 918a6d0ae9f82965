"""From users' vectors to the vectors that lists are found in.

Lists are found by squared distance whatever the metric: rows are scaled to unit length under cosine; under inner
product with rows of different lengths one coordinate is added that makes them equally long (Bachrach et al. 2014), and
queries get 0 there, so that the nearest row is the one of largest product. A query's length says nothing of its order
of rows: under inner product queries are brought to the rows' length. Principal components then shorten both.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kinsight.errors import DataError
from kinsight.neighbors import Metric, Projection, fit_projection
from kinsight.neighbors.vectors import row_norms

_NO_LENGTH = 1e-30
_UNEVEN = 0.02  # relative difference from the even length that lists still bear
_EVEN = 1e-3  # relative spread of lengths up to which they count as equal


@dataclass(frozen=True)
class Space:
    """metric: as the user named it. longest: the length that rows under ip are brought to; 0: no coordinate is added.
    projection: None keeps all dimensions. even: under ip without that coordinate, the length of all rows; 0: not known.
    """

    metric: Metric
    dim: int
    longest: float
    projection: Projection | None
    even: float = 0.0

    @property
    def routed_dim(self) -> int:
        """Length of the vectors that are routed."""
        return self.dim + bool(self.longest) if self.projection is None else self.projection.axes_DE.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        """What `from_tensors` builds it from again."""
        found = {name: torch.tensor(getattr(self, name), dtype=torch.float64) for name in ("longest", "even")}
        if (fitted := self.projection) is not None:
            found |= {"mean": fitted.mean_D, "axes": fitted.axes_DE, "variance": fitted.variance_E}
        return found

    @classmethod
    def from_tensors(cls, metric: Metric, dim: int, found: dict[str, Tensor]) -> "Space":
        """The space that gave these tensors."""
        projection = None
        if "axes" in found:
            projection = Projection(found["mean"], found["axes"], found["variance"], 1.0, False)
        return cls(metric, dim, float(found["longest"]), projection, float(found["even"]))

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
        return self._projected(vector_ND, 0)

    def queries(self, query_QD: Tensor) -> Tensor:
        """Queries, float32 (Q, routed_dim). Raises as `rows`."""
        return self.ready_queries(self._scaled(query_QD, "queries")[0])

    def ready_queries(self, query_QD: Tensor) -> Tensor:
        """As `queries`, of float32 rows that are finite, of the right length, and of unit length under cosine."""
        if self.metric == "ip" and (length := self.longest or self.even):
            query_QD = query_QD * (
                length / query_QD.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
            )
        missing = self.routed_dim - self.dim if self.projection is None else int(self.longest > 0)
        if missing and self.projection is None:
            return torch.cat([query_QD, query_QD.new_zeros(len(query_QD), missing)], 1)
        return self._projected(query_QD, missing)

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

    def _projected(self, vector_ND: Tensor, missing: int) -> Tensor:
        """missing: coordinates at the end that are zero and not given."""
        if self.projection is None:
            return vector_ND
        axes_DE, offset_E = self._affine
        axes_DE = axes_DE[: len(axes_DE) - missing].to(vector_ND.device)
        return torch.addmm(offset_E.to(vector_ND.device), vector_ND, axes_DE)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        """The projection as one product and one sum in float32: routing needs no more digits."""
        assert self.projection is not None
        axes_DE = self.projection.axes_DE
        return axes_DE.float(), -(self.projection.mean_D @ axes_DE).float()


def fit_space(vector_ND: Tensor, metric: Metric, components: int | None, length_N: Tensor | None = None) -> Space:
    """The space for such vectors; components: dimensions to keep. length_N: of all vectors that will be stored, where
    `vector_ND` is only some of them; needed under ip. Raises DataError, SpecError as `fit_projection`.
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
    projection = fit_projection(whole.rows(vector_ND), components, normalize=False)
    return Space(metric, dim, longest, projection, even)
