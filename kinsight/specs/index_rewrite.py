"""The `index` jobs that write rows anew: compact, merge."""

from typing import Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec
from kinsight.specs.index import IndexKind

_ADDRESS = "a local folder, s3:// or oss://"


class IndexCompact(Spec):
    """Write an index anew without the items that were deleted, which until then keep their room."""

    job: Literal["index compact"] = "index compact"
    index: str = Field(description=f"address of the index: {_ADDRESS}", json_schema_extra={"positional": True})


class IndexMerge(Spec):
    """Make one index of several of the same model, metric, ids and columns."""

    job: Literal["index merge"] = "index merge"
    indexes: list[str] = Field(
        description="addresses of the indexes, two or more; the first says how vectors are found",
        min_length=2,
        json_schema_extra={"positional": True},
    )
    output: str = Field(
        description="address of the new index's folder; with --overwrite it may be that of one of the indexes"
    )
    index: IndexKind | None = Field(
        default=None,
        description="how vectors are found; null: as in the first, its numbers chosen anew for all of them",
    )
    on_duplicate: Literal["error", "replace", "skip"] = Field(
        default="error",
        description="what becomes of an id that is in several indexes: refused, the last one's item, the first one's",
    )
    renumber: bool = Field(
        default=False,
        description="new running numbers for the second index and those after it: a number is added to each",
    )

    @model_validator(mode="after")
    def _each_once(self) -> "IndexMerge":
        for place in self.indexes:
            if self.indexes.count(place) > 1:
                raise ValueError(f"indexes: {place} is named twice")
        return self
