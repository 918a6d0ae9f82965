"""What `kinsight convert` may be told."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec, default_tag
from kinsight.specs.data import Source


class ToTFRecord(Spec):
    """TFRecord files with TF-slim's keys, an index beside each, and label_map.pbtxt."""

    kind: Literal["tfrecord"] = "tfrecord"
    label_offset: int = Field(
        default=0, ge=0, le=1_000_000, description="number of the first class in the files and the label map: 0 or 1"
    )


class ToImageList(Spec):
    """A text file, `path label [label ...]` a line."""

    kind: Literal["image-list"] = "image-list"
    copy_images: bool = Field(
        default=False,
        description="write all images below images/; else only those that shrink or lie inside other files: the others "
        "are named where they are",
    )


class ToParquet(Spec):
    """Parquet files with the images' bytes, uncompressed, in a column of their own."""

    kind: Literal["parquet"] = "parquet"


class ToShards(Spec):
    """tar files as WebDataset reads them, and a Parquet table that names each image inside them for random access."""

    kind: Literal["shards"] = "shards"


Target = Annotated[
    ToTFRecord | ToImageList | ToParquet | ToShards, Field(discriminator="kind"), default_tag("kind", "tfrecord")
]


class ConvertSpec(Spec):
    """Labelled images from one form into another."""

    job: Literal["convert"] = "convert"
    data: Source = Field(description="images and labels to convert")
    output: str = Field(description="address of the folder that receives the files")
    prefix: str = Field(default="", max_length=200, description="put before the name of each file")
    to: Target = Field(default=ToTFRecord(), description="form to convert into")
    classes: str | list[str] | None = Field(
        default=None, description="class names in label order: a list, `[a,b,c]`, or the address of a text file"
    )
    max_image_size: int | None = Field(
        default=None,
        ge=8,
        le=65_000,
        description="longest side in pixels: larger images are shrunk and encoded anew, others keep their bytes",
    )
    quality: int = Field(default=95, ge=1, le=100, description="of JPEGs that are encoded anew")
    per_file: int = Field(default=128, ge=1, description="images in a file")
    test_ratio: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the images for testing, the same of each label as far as possible",
    )
    shuffle: bool = Field(default=True, description="mix the order of the images, so that each file holds all kinds")
    unlabelled: Literal["error", "leave-out", "keep"] = Field(
        default="error",
        description="images without any label: an error, left out, or kept (they show none of the labels)",
    )
    unknown: Literal["error", "absent", "leave-out"] = Field(
        default="error",
        description="labels of which nobody knows whether the image shows them (VOC's classes of difficult objects "
        "alone): an error, taken as not shown, or images with any are left out",
    )
    workers: int = Field(default=8, ge=0, le=256, description="processes that read and write; 0: none beside this one")
    max_broken: float = Field(default=0.01, ge=0, le=1, description="share of unusable images that stops the job")
    seed: int = Field(default=0, ge=0, description="seed of the order and of the split")

    @model_validator(mode="after")
    def _effective(self) -> "ConvertSpec":
        fields = type(self).model_fields  # a printed spec names every field
        if self.quality != fields["quality"].default and self.max_image_size is None:
            raise ValueError("quality has no effect without max_image_size: no image is encoded anew")
        if self.per_file != fields["per_file"].default and isinstance(self.to, ToImageList):
            raise ValueError("per_file has no effect on an image list, which is one file")
        if "/" in self.prefix:
            raise ValueError("prefix is the beginning of a name; put folders into output")
        return self
