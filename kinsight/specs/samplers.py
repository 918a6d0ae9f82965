"""Which images meet in a batch."""

from typing import Annotated, Literal

from pydantic import Field

from kinsight.specs.base import Spec, default_tag

SamplesPerClass = Annotated[int, Field(ge=2)]


class ShuffleSampler(Spec):
    """Every image once an epoch, in random order."""

    kind: Literal["shuffle"] = "shuffle"
    reshuffle: bool = Field(default=True, description="another order in every epoch")


class PerClassSampler(Spec):
    """Batches of random classes with the same number of images each; what pair losses need.

    A class with fewer images gives all it has and repeats some of them. Images of several labels come once in a batch,
    unless its classes have too few together.
    """

    kind: Literal["per-class"] = "per-class"
    samples_per_class: SamplesPerClass = Field(
        default=4, description="images of each class in a batch; the batch must divide by it"
    )


class ClassBalancedSampler(Spec):
    """Every class equally often, however many images it has."""

    kind: Literal["class-balanced"] = "class-balanced"


class HierarchicalSampler(Spec):
    """Batches of classes from a few super-classes, which are harder to tell apart.

    A super-class with too few classes gives all it has; further super-classes fill the batch.
    """

    kind: Literal["hierarchical"] = "hierarchical"
    samples_per_class: SamplesPerClass = Field(
        default=4, description="images of each class in a batch; the batch must divide by it"
    )
    super_classes: int = Field(default=3, ge=1, description="super-classes in a batch")
    column: str = Field(default="group", description="column with the super-class; group: the source's")


class TripletSampler(Spec):
    """Triplets of two random classes: anchor and positive of one, a negative of the other; the batch divides by 3.

    Anchors come from classes with two images or more. With several labels an image, a negative shares none with its
    anchor.
    """

    kind: Literal["triplets"] = "triplets"


Sampler = Annotated[
    ShuffleSampler | PerClassSampler | ClassBalancedSampler | HierarchicalSampler | TripletSampler,
    Field(discriminator="kind"),
    default_tag("kind", "shuffle"),
]
