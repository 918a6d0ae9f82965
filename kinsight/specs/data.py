"""Where the images and labels are, and how they are read."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kinsight.specs.base import Spec, default_tag


class _Listed(Spec):
    path: str = Field(description="address of the list: a local path, file://, s3://, oss:// or http(s)://")
    root: str | None = Field(
        default=None, description="address that relative image paths start from; default: the list's folder"
    )


class ImageList(_Listed):
    """One image a line: `path label [label ...]`; spaces, tabs or commas; split from the right."""

    format: Literal["image-list"] = "image-list"


class Folder(Spec):
    """A folder of class folders; an image's class is its directory relative to `path`."""

    format: Literal["folder"] = "folder"
    path: str = Field(description="address of the folder")


class Itag(Spec):
    """A PAI iTAG manifest: JSON lines with `data.source` and label results."""

    format: Literal["itag"] = "itag"
    path: str = Field(description="address of the .manifest file")


class Sop(_Listed):
    """Stanford Online Products' lists: `image_id class_id super_class_id path` under a header line."""

    format: Literal["sop"] = "sop"


class _Columns(_Listed):
    image_column: str = Field(default="image", description="column of image paths")
    label_column: str = Field(default="label", description="column of labels (a value, or a list of values)")
    label_columns: list[str] | None = Field(
        default=None,
        min_length=1,
        description="instead of label_column: one column for each label, in label order, with 1 (shown), 0 (not shown) "
        "or, where nobody knows, nothing, ? or -1; * stands for all columns that have no other meaning",
    )
    group_column: str | None = Field(
        default=None,
        description="column that groups images (track, product, super-class); null: one named group, if there is one",
    )

    @model_validator(mode="after")
    def _one_way_to_label(self) -> "_Columns":
        if self.label_columns is not None and self.label_column != type(self).model_fields["label_column"].default:
            raise ValueError("label_column and label_columns are two ways to say the same: set one of them")
        return self


class Csv(_Columns):
    """A CSV file with a header line."""

    format: Literal["csv"] = "csv"


class Parquet(_Columns):
    """A Parquet file; with the images' bytes in the image column one or several, by *, ? and [...]."""

    format: Literal["parquet"] = "parquet"


class TFRecord(Spec):
    """TFRecord files of tf.train.Example messages, with TF-slim's keys unless others are named."""

    format: Literal["tfrecord"] = "tfrecord"
    path: str = Field(
        description="address of one file, or of several by *, ? and [...] in its last part: oss://bucket/train_*.tfrecord"
    )
    image_key: str = Field(default="image/encoded", description="feature with the encoded image")
    label_key: str = Field(
        default="image/class/label", description="feature with the class numbers (or class names): one, several or none"
    )
    text_key: str | None = Field(
        default="image/class/text",
        description="feature with the class names, as many as there are labels; null, or absent there: none",
    )
    format_key: str | None = Field(
        default="image/format",
        description="feature with the image's format, which must be one that is read; null: none",
    )
    label_offset: int = Field(
        default=0, ge=-1_000_000, le=1_000_000, description="what the first class's number is in the files: 0 or 1"
    )
    label_map: str | None = Field(
        default=None,
        description="address of the class names by number: pbtxt (item {id, name}), JSON, or text (`1: cat`, or a name "
        "a line from label_offset on)",
    )


class EasyVisionCsv(_Listed):
    """PAI EasyVision's label file: `id,{"url": ...},{"option": ...}` a line, also as its documentation misprints it."""

    format: Literal["easyvision-csv"] = "easyvision-csv"


class Coco(_Listed):
    """COCO's instance annotations: an image's labels are the categories of its objects."""

    format: Literal["coco"] = "coco"


class Voc(Spec):
    """Pascal VOC's annotations: an image's labels are its objects; what only difficult objects show is unknown."""

    format: Literal["voc"] = "voc"
    path: str = Field(description="address of the folder that holds Annotations, JPEGImages and ImageSets")
    split: str | None = Field(
        default=None, description="list of images below ImageSets/Main, without .txt: train; default: every annotation"
    )
    annotations: str = Field(default="Annotations", description="folder of the XML files, below path")
    images: str = Field(default="JPEGImages", description="folder of the images, below path")


Source = Annotated[
    ImageList | Folder | Itag | Sop | Csv | Parquet | TFRecord | EasyVisionCsv | Coco | Voc,
    Field(discriminator="format"),
    default_tag("format", "image-list"),
]


class PhotoAugment(Spec):
    """Random resized crop and horizontal flip, as usual for photographs."""

    kind: Literal["photo"] = "photo"
    min_area: float = Field(
        default=0.08, gt=0, le=1, description="smallest crop, as a share of the image's area; 1: all of it, squeezed"
    )
    flip: bool = Field(default=True, description="mirror half of the images")


class SymbolAugment(Spec):
    """Small affine distortions without mirroring: characters, logos, drawings."""

    kind: Literal["symbol"] = "symbol"
    rotate_deg: float = Field(default=10.0, ge=0, le=180, description="largest rotation, in degrees")
    scale: float = Field(default=0.15, ge=0, lt=1, description="largest relative change of size")
    shear_deg: float = Field(default=10.0, ge=0, lt=90, description="largest shear, in degrees")
    translate: float = Field(default=0.1, ge=0, lt=1, description="largest shift, as a share of the image's side")


class LightAugment(Spec):
    """Random crop of at least three quarters of the area and horizontal flip."""

    kind: Literal["light"] = "light"
    min_area: float = Field(
        default=0.75, gt=0, le=1, description="smallest crop, as a share of the image's area; 1: all of it, squeezed"
    )
    flip: bool = Field(default=True, description="mirror half of the images")


class NoAugment(Spec):
    """The image as evaluation sees it."""

    kind: Literal["none"] = "none"


Augment = Annotated[
    PhotoAugment | SymbolAugment | LightAugment | NoAugment,
    Field(discriminator="kind"),
    default_tag("kind", "photo"),
]


class ImageSpec(Spec):
    """How an image becomes a tensor."""

    image_size: int = Field(default=224, ge=8, le=4096, description="side of the square the network sees, in pixels")
    color: Literal["rgb", "gray"] = Field(default="rgb", description="channels the network sees: three or one")
    crop: float = Field(
        default=0.875,
        gt=0,
        le=1,
        description="evaluation: centre crop as a share of the resized image; 1 squeezes it whole",
    )


class DataSpec(ImageSpec):
    """Training data and how it is fed."""

    train: Source = Field(description="images to learn from")
    validation: Source | None = Field(
        default=None, description="images to choose the best epoch by; without: the last is best"
    )
    classes: str | list[str] | None = Field(
        default=None, description="class names in label order: a list, `[a,b,c]`, or the address of a text file"
    )
    num_classes: int | None = Field(default=None, ge=1, description="number of training classes; counted when absent")
    augment: Augment = Field(default=PhotoAugment(), description="random changes while training")
    workers: int = Field(
        default=4, ge=0, le=256, description="processes that read and decode images; 0: none beside the trainer"
    )
    cache: Literal["none", "memory"] = Field(
        default="none", description="keep images in memory after the first reading"
    )
    max_broken: float = Field(default=0.01, ge=0, le=1, description="share of unreadable images that stops the run")
