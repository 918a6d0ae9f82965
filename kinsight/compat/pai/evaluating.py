"""What a training of EasyVision ends with: its model measured on the test data, as an `evaluate` job."""

from typing import Any

from kinsight.compat.flags import Values
from kinsight.progress import say
from kinsight.specs.evaluate import EvaluateSpec
from kinsight.specs.flags import check
from kinsight.specs.train import TrainSpec


def evaluate_spec(spec: TrainSpec, values: Values) -> EvaluateSpec:
    """All test images, by the model that the training kept."""
    assert spec.data.validation is not None, "--test_data must be given"
    tree: dict[str, Any] = {
        "bundle": spec.output,
        "data": spec.data.validation,
        "output": f"{spec.output.rstrip('/')}/evaluation",
        "classes": {"each_class": values["eval_each_category"], "num_visualizations": values["num_visualizations"]},
        "batch_size": spec.validate_.batch_size,
        "workers": spec.data.workers,
        "device": spec.device,
    }
    found = check(EvaluateSpec, tree)
    assert isinstance(found, EvaluateSpec)
    return found


def evaluate(spec: TrainSpec, values: Values) -> None:
    """Measure the training's model. Raises KinsightError."""
    from kinsight.evaluation import evaluate as evaluate_job

    wanted = evaluate_spec(spec, values)
    evaluate_job(wanted, overwrite=True)
    say(f"model       {spec.output.rstrip('/')}/bundle; measured: {wanted.output}")
