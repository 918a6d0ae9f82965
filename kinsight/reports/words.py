"""Metrics in words that need no background."""

import re
from collections.abc import Mapping
from typing import Any

HEADLINES = ("recall@1", "map@r", "r_precision", "recall@10", "auc", "eer")
_COUNTS = ("queries", "queries_without_match", "gallery", "classes", "broken_images", "same_pairs", "different_pairs")
_NAMES = {
    "map@r": "MAP@R",
    "r_precision": "R-precision",
    "auc": "ROC AUC",
    "eer": "Equal error rate",
    "map": "Mean average precision",
    "mrr": "Mean reciprocal rank",
    "best_accuracy": "Best accuracy on pairs",
    "loss": "Loss",
    "lr": "Learning rate",
}
_SENTENCES = {
    "map@r": "How clean the first R results are, the first places counting most; R is how many right ones there are.",
    "r_precision": "Where R images of the class exist: this share of the first R results is right.",
    "auc": "The chance that two images of one class look more alike to the model than two of different classes.",
    "eer": "At the threshold where both mistakes are equally frequent, this share of pairs is judged wrongly.",
    "map": "How early the right images come, over the whole list of results.",
    "mrr": "1 / place of the first right result, averaged: 1 is always first, 0.5 second.",
    "best_accuracy": "Share of pairs judged rightly, same or different, at the best single threshold.",
}


def in_sentence(name: str) -> str:
    """A metric's name amid a sentence: `Mean average precision` in small letters, `MAP@R` as it is."""
    return name[0].lower() + name[1:] if name[1:2].islower() else name


def variant(name: str, size: int | None = None, *, improved: bool = False) -> str:
    """The flat name of a metric measured with the first `size` dimensions, or with a search made better, or both."""
    return (f"dim={size}/" if size is not None else "") + ("improved/" if improved else "") + name


def at_level(name: str, level: str | None) -> str:
    """The flat name of a metric of the same search, judged at another level: by super-classes, by likeness."""
    return name if level is None else f"level={level}/{name}"


def level_names(metrics: Mapping[str, Any]) -> list[str]:
    """The levels that metrics were judged at, in their order, beside the class."""
    return list(dict.fromkeys(name[6:].rpartition("/")[0] for name in metrics if name.startswith("level=")))


def variant_sizes(metrics: Mapping[str, Any]) -> list[int]:
    """The sizes that metrics were measured with, ascending, beside all dimensions."""
    return sorted({int(name.partition("/")[0][4:]) for name in metrics if name.startswith("dim=")})


def retrieval_names(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics that a search made better, or with fewer dimensions, is measured by: those of `metrics` that have a
    variant."""
    known = {name.rpartition("/")[2] for name in metrics if name.startswith(("dim=", "improved/"))}
    names = [name for name in metrics if name in known and not name.endswith((".low", ".high"))]
    return [name for name in names if not name.startswith("cmc@")]


def similarity_words(value: float) -> str:
    """A similarity with as many digits as tell it from 1: models at their beginning find everything alike."""
    return f"{value:.3f}" if abs(1 - value) > 0.005 else f"{value:.5f}"


def display_name(name: str) -> str:
    """`recall@1` -> "Recall@1"."""
    if name in _NAMES:
        return _NAMES[name]
    if name.startswith("tpr@fpr="):
        return f"Same pairs found at {rate_words(name)} false matches"
    return name[:1].upper() + name[1:].replace("_", " ")


def sentence(name: str, *, several: bool = False) -> str:
    """What a metric means, in one sentence; empty for one that has none. several: of images with several labels."""
    words = _sentence(name)
    if several:
        for single, shared in _SHARED.items():
            words = words.replace(single, shared)
    return words


_SHARED = {
    "shows the same class": "shares a label",
    "show the same class": "share a label",
    "images of the class": "images that share a label",
}


def _sentence(name: str) -> str:
    if found := re.fullmatch(r"recall@(\d+)", name):
        k = int(found[1])
        if k == 1:
            return "How often the most similar image shows the same class."
        return f"How often at least one of the {k:,} most similar images shows the same class."
    if found := re.fullmatch(r"precision@(\d+)", name):
        return f"Share of the {int(found[1]):,} most similar images that show the same class."
    if name.startswith("tpr@fpr="):
        return f"Share of same pairs recognised when {rate_words(name)} of different pairs are taken for the same."
    return _SENTENCES.get(name, "")


def rate_words(name: str) -> str:
    """`tpr@fpr=1e-3` -> "1 in 1,000"."""
    rate = float(name.rpartition("=")[2])
    one_in = 1 / rate
    return f"1 in {one_in:,.0f}" if one_in >= 2 and abs(one_in - round(one_in)) < 1e-6 * one_in else f"{rate:.3g}"


def headline_names(metrics: Mapping[str, Any]) -> list[str]:
    """The numbers shown large, in order: the usual ones, and the strictest rate that could be measured."""
    names = [name for name in HEADLINES if name in metrics]
    rates = [
        name
        for name, value in metrics.items()
        if name.startswith("tpr@fpr=") and not name.endswith((".low", ".high")) and value is not None
    ]
    return names + sorted(rates, key=lambda name: float(name.rpartition("=")[2]))[:1]


def other_names(metrics: Mapping[str, Any]) -> list[str]:
    """All further rates and scores, without bounds, counts and doubles."""
    shown = {*headline_names(metrics), *_COUNTS}
    return [
        name
        for name in metrics
        if name not in shown
        and "/" not in name
        and not name.endswith((".low", ".high"))
        and not name.startswith(("cmc@", "fnmr@"))
    ]


def percent(value: float | None) -> str:
    """0.9234 -> "92.3 %"; small and nearly whole shares keep a digit that tells."""
    if value is None or value != value:
        return "not measurable"
    share = 100 * value
    digits = 1 if 1 <= share <= 99 or share in (0, 100) else 2
    return f"{share:.{digits}f} %"
