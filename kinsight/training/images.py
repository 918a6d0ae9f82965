"""The images that a training reads, checked: what it learns from and what it is judged by."""

from kinsight.data import (
    Records,
    read_class_names,
    read_records,
    require_images,
)
from kinsight.errors import DataError
from kinsight.specs.train import TrainSpec
from kinsight.training.checks import (
    check_classes,
    check_label_validation,
    check_validation_classes,
)


def read_training_records(spec: TrainSpec) -> Records:
    """The training images, checked against `data.classes` and `data.num_classes`."""
    classes = read_class_names(spec.data.classes) if spec.data.classes is not None else None
    labelled = spec.task != "multilabel"  # there an image may show nothing of what is asked for
    records = read_records(
        spec.data.train,
        classes=classes,
        num_classes=spec.data.num_classes,
        labelled=labelled,
        single=spec.task == "classification",
    )
    require_images(records, spec.data.train)
    check_classes(spec, records)
    return records


def read_validation(spec: TrainSpec, training: Records) -> Records | None:
    """The images to judge by, under the training's classes where these are what is learned; None without any."""
    if spec.data.validation is None:
        return None
    if spec.task == "metric":
        records = read_records(spec.data.validation, own_vocabulary=True)
    else:
        labelled = spec.task == "classification"
        try:
            records = read_records(
                spec.data.validation,
                classes=training.class_names,
                learned=True,
                labelled=labelled,
                single=labelled,
            )
        except DataError as error:
            raise _as_never_learnt(error, spec) from None
    require_images(records, spec.data.validation, field="data.validation")
    if spec.validate_.images is not None and spec.validate_.images < len(records):
        records = records.take(range(spec.validate_.images))
    if spec.task == "metric":
        check_validation_classes(records)
    else:
        check_label_validation(spec, records)
    return records


def _as_never_learnt(error: DataError, spec: TrainSpec) -> DataError:
    """The same with the remedy that helps where the classes are those that the training images happen to show."""
    counted = spec.data.classes is None and spec.data.num_classes is None
    if error.code not in ("data.label-unknown", "data.label-range") or not counted:
        return error
    remedy = (
        "no training image has it, and the classes were counted from the training images: set data.classes or "
        "data.num_classes, or take these rows out of data.validation"
    )
    return DataError(error.code, error.message, field=error.field, remedy=remedy)
