"""The page that trainings and evaluations leave."""

from typing import Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec


class ReportSpec(Spec):
    """A page for people: curves, numbers in words, pictures of hits and mistakes, a map of the embeddings."""

    kind: Literal["html"] = Field(default="html", description="one HTML file that needs no network")
    map: Literal["tsne", "pca", "none"] = Field(
        default="tsne", description="the embeddings in two dimensions: by t-SNE, by principal components, or not at all"
    )
    map_items: int = Field(
        default=10_000, ge=10, le=200_000, description="items on the map at most; of more, so many are drawn by seed"
    )
    map_pictures_mb: float = Field(
        default=8.0, ge=0, le=500, description="megabytes of small pictures on the map; 0: none"
    )

    @model_validator(mode="after")
    def _map_settings_take_effect(self) -> "ReportSpec":
        if self.map == "none":
            for name in ("map_items", "map_pictures_mb"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} has no effect with map=none")
        return self
