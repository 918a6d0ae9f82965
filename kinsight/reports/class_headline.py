"""The numbers of a classifier, large, then all of them with what they mean."""

from collections.abc import Mapping
from typing import Any

from kinsight.reports.classified import Classified
from kinsight.reports.headline import interval
from kinsight.reports.html import details, escape, section, table
from kinsight.reports.words import percent

_LARGE_ONE = ("accuracy", "top5_accuracy", "macro_recall", "macro_precision")
_LARGE_SEVERAL = ("map", "cf1", "of1", "exact_match", "micro_map")
_NAMES = {
    "accuracy": "Accuracy",
    "macro_recall": "Recall, mean over classes",
    "macro_precision": "Precision, mean over classes",
    "map": "mAP",
    "micro_map": "mAP, all labels as one",
    "weighted_map": "mAP, weighted by images",
    "cp": "CP",
    "cr": "CR",
    "cf1": "CF1",
    "op": "OP",
    "or": "OR",
    "of1": "OF1",
    "macro_f1": "F1, mean over labels",
    "exact_match": "Exact match",
    "coverage_error": "Coverage",
    "ece": "Calibration error",
    "calibrated/ece": "Calibration error, calibrated",
    "temperature": "Temperature",
}
_SENTENCES = {
    "accuracy": "How often the most probable class is the right one.",
    "macro_recall": "How often a class is recognised, each class counting the same.",
    "macro_precision": "How often a class is right where it is said, each class counting the same.",
    "map": "How far up an image of a label stands when all images are ordered by its probability; mean over labels.",
    "micro_map": "The same over all pairs of image and label at once: also whether labels' probabilities compare.",
    "weighted_map": "Mean over labels, each counting by its images.",
    "cp": "How often a label is right where it is said, mean over labels.",
    "cr": "How often a label is said where it is right, mean over labels.",
    "cf1": "The harmonic mean of CP and CR.",
    "op": "How often a label is right where it is said, over all labels together.",
    "or": "How often a label is said where it is right, over all labels together.",
    "of1": "The harmonic mean of OP and OR.",
    "macro_f1": "The F1 of each label, averaged.",
    "exact_match": "How often all labels of an image are right.",
    "coverage_error": "How many of the most probable labels hold all that an image shows, on average.",
    "ece": "How far the probabilities are from how often they come true, on average.",
    "calibrated/ece": "The same with the temperature found on these images.",
    "temperature": "What logits have to be divided by so that probabilities come true; above 1: the model is too sure.",
}
_SHARES = ("coverage_error", "temperature")  # are none


def class_headline(found: Classified) -> str:
    """Large numbers, then a table of all."""
    metrics = found.metrics
    plain = _LARGE_ONE if found.one is not None else _LARGE_SEVERAL
    large = [name for name in (_as_the_model_is(found, name) for name in plain) if name in metrics]
    cards = "".join(_card(name, metrics) for name in large)
    rest = [name for name in _NAMES if name in metrics and name not in large]
    rest += [name for name in metrics if name.startswith(("top", "chosen/")) and name not in large]
    rows = [
        (display_name(name), _value(metrics[name]), interval(metrics, name), meaning(name))
        for name in [*large, *rest]
        if not name.endswith((".low", ".high"))
    ]
    columns = ("Metric", "Value", f"{100 * found.confidence:g} % interval", "What it says")
    everything = details("All numbers", table(columns, rows, numbers=(1, 2)))
    return section("In short", f'<div class="heads">{cards}</div>', everything, note=_note(found), anchor="short")


def display_name(name: str) -> str:
    """`cf1` -> "CF1"."""
    if name.startswith("chosen/"):
        return f"{display_name(name.removeprefix('chosen/'))}, thresholds chosen here"
    if name.startswith("top"):
        return f"Top-{name[3:].partition('_')[0]} accuracy"
    return _NAMES[name]


def meaning(name: str) -> str:
    """What a number says, in a sentence."""
    if name.startswith("chosen/"):
        return "With the thresholds that were chosen on these very images: elsewhere it will be less."
    if name.startswith("top"):
        return f"How often the right class is among the {name[3:].partition('_')[0]} most probable ones."
    return _SENTENCES[name]


def _as_the_model_is(found: Classified, name: str) -> str:
    """The number's name at the model's own thresholds, where these were chosen here."""
    chosen = f"chosen/{name}"
    return chosen if found.kept_here and chosen in found.metrics else name


def _card(name: str, metrics: Mapping[str, Any]) -> str:
    return (
        f'<div class="head"><span>{escape(display_name(name))}</span><strong>{escape(percent(metrics[name]))}</strong>'
        f"<em>{escape(interval(metrics, name))}</em><small>{escape(meaning(name))}</small></div>"
    )


def _note(found: Classified) -> str:
    kind, number = ("classes", "classes") if found.one is not None else ("labels", "labels")
    text = (
        f"{len(found):,} images; {found.metrics[number]:,} of the {len(found.class_names):,} {kind} occur among them."
    )
    if found.several is not None:
        unknown = int((found.target < 0).sum())
        if unknown:
            text += f" Of {unknown:,} pairs of image and label nobody knows the truth: they count nowhere."
        if found.metrics["labels"] < len(found.class_names):
            text += " Labels that no image shows are in no mean."
    if found.fitted.at_bound:
        text += (
            f" The temperature that these images ask for is at its bound of {found.fitted.temperature:g}, so that it "
            "is not kept: the probabilities say little of how sure the model is."
        )
    if found.kept_here:
        text += _chosen_here(found)
    if any(name.endswith(".low") for name in found.metrics):
        text += (
            f" The intervals say where each number would lie {100 * found.confidence:g} % of the time if other images "
            "of the same kind had been measured; where none is given, none is measured."
        )
    return text


def _chosen_here(found: Classified) -> str:
    if found.several is None:
        return " The model's temperature was found on these very images; the numbers are without it unless they say so."
    what = "thresholds" if found.temperature is None else "temperature and thresholds"
    return (
        f" The model's {what} were chosen on these very images, which flatters the numbers that say "
        "so, and the mistakes on this page. The others are without them: a label is said from a probability of 50 % "
        "on, as in the validations of the training."
    )


def _value(value: Any) -> str:
    return "not measurable" if value is None or value != value else f"{value:.4f}"
