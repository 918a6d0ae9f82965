"""`eval.py`: an `evaluate` job on the test list, and the line that the script printed."""

from typing import Any

from kinsight import storage
from kinsight.compat.flags import Values
from kinsight.compat.paddle.common import TEST_LIST, at_least, begin, device, image, listed, stamp, workers
from kinsight.compat.paddle.start import Start, check_use, start_of
from kinsight.compat.paddle.words import in_flags
from kinsight.evaluation import evaluate
from kinsight.progress import say, warn
from kinsight.specs.evaluate import EvaluateSpec
from kinsight.specs.flags import check


def run(values: Values) -> None:
    """Measure Recall@1 among all test images. Raises KinsightError."""
    begin(values)
    with in_flags():
        tree = using(values) | {"output": beside(values, "eval"), "report": None, "ks": [1]}
        spec = check(EvaluateSpec, tree | ({"write_thresholds": False} if "bundle" in tree else {}))
        assert isinstance(spec, EvaluateSpec)
        metrics = evaluate(spec, overwrite=True).metrics
    found, alone = metrics["queries"] or 0, metrics["queries_without_match"] or 0
    # An image alone in its class counts as not found, as the script counts it; other metrics leave it out.
    recall = (metrics["recall@1"] or 0.0) * found / (found + alone)
    print(f"[{stamp()}] End test {found + alone:.0f}, test_recall {recall:.5f}", flush=True)
    say(f"written to  {spec.output}: more metrics with their intervals")


def using(values: Values) -> dict[str, Any]:
    """What jobs that use a model are told: the model, the test images, how to compute. Raises KinsightError."""
    at_least(values, 1, "batch_size")
    at_least(values, 0, "embedding_size")
    start = start_of(values)
    check_use(values, start)
    return {
        **_model(values, start),
        "data": listed(values, TEST_LIST),
        "batch_size": values["batch_size"],
        "workers": workers(),
        "device": device(values),
        "precision": "fp32",
    }


def _model(values: Values, start: Start) -> dict[str, Any]:
    if start.bundle is not None:
        return {"bundle": start.bundle}
    if start.weights is None:
        warn("no --pretrained_model: the network has random weights")
    if values["embedding_size"]:
        warn("--embedding_size: no effect on a network without a trained embedding; its pooled features are taken")
    model = {"backbone": values["model"], "pretrained": start.weights}
    return {"model": model, "image": image(values).model_dump()}


def beside(values: Values, what: str) -> str:
    """Where results are written: beside the model, or, where nothing can be beside it, in the working directory."""
    text = (values["pretrained_model"] or "").rstrip("/")
    readable_only = text and storage.Address.parse(text).scheme in ("http", "https")
    if not text or readable_only or not storage.exists(storage.Address.parse(text)):
        return f"output/{values['model']}-{what}"
    return f"{text}-{what}"
