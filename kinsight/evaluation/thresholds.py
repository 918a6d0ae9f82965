"""Thresholds measured by an evaluation, kept where searches look for them: in the bundle."""

from collections.abc import Iterable

from kinsight import progress, storage
from kinsight.data.sketch import share_in
from kinsight.errors import StorageError
from kinsight.metrics.verification import rate_name
from kinsight.models import ThresholdPoint, Thresholds, load_header, write_thresholds
from kinsight.models.thresholds import LOOSEST_BY_DEFAULT


def keep_thresholds(
    bundle: storage.AddressLike,
    found: Thresholds | None,
    gallery_fingerprint: str | None = None,
    uris: Iterable[str] = (),
) -> None:
    """Put `found` into the bundle; where they would mislead or cannot be written, say why and leave it as it is.

    Points that the bundle has stay unless those of `found` rest on as much; which stayed is said.

    gallery_fingerprint: of the images searched in, where they are others than the queries. uris: addresses of all
    images measured on; those that the model was trained on would make it look better than it is.
    """
    if found is None or not found.points:
        return
    header = load_header(bundle)
    if header.data_fingerprint is not None and header.data_fingerprint in (found.data_fingerprint, gallery_fingerprint):
        progress.warn("no thresholds are written into the bundle: these are its training images, so they mislead")
        return
    if shared := share_in(header.data_sketch, uris):
        progress.warn(
            f"no thresholds are written into the bundle: about {100 * shared:.0f} % of these are its training images, "
            "so they mislead"
        )
        return
    if header.metric != found.metric:
        progress.warn(f"no thresholds are written into the bundle: its metric is {header.metric}, not {found.metric}")
        return
    merged, kept = _merged(header.thresholds, _marked(found, gallery_fingerprint))
    if kept:
        progress.say("kept        " + "; ".join(kept))
    if merged == header.thresholds:
        return
    try:
        write_thresholds(bundle, merged)
    except StorageError as error:
        progress.warn(f"no thresholds are written into the bundle: {error.message}")
        return
    strictest = min(found.points, key=lambda point: point.fmr)
    if any(point.fmr == strictest.fmr and point.threshold == strictest.threshold for point in merged.points):
        progress.say(
            f"threshold   {strictest.threshold:.4f} accepts {100 * strictest.tmr:.1f} % of same pairs and "
            f"{strictest.fmr:g} of different ones (on other classes {strictest.fmr_low:.1g} to "
            f"{strictest.fmr_high:.1g}); now in the bundle"
        )
    if merged.default() is None:
        progress.say(
            f"threshold   searches accept nothing unless told to: no rate of {LOOSEST_BY_DEFAULT:g} or less is measured"
        )


def _marked(found: Thresholds, gallery_fingerprint: str | None) -> Thresholds:
    """With a gallery, the same queries are the same data only beside the same gallery."""
    if gallery_fingerprint is None or found.data_fingerprint is None:
        return found
    data = f"{found.data_fingerprint}+{gallery_fingerprint}"
    points = tuple(point.model_copy(update={"data_fingerprint": data}) for point in found.points)
    return found.model_copy(update={"data_fingerprint": data, "points": points})


def _merged(known: Thresholds | None, found: Thresholds) -> tuple[Thresholds, list[str]]:
    """What the bundle is to hold, and a few words on each known point that stays.

    A point gives way to one for its rate that rests on as much, or on the same data; without one it stays, unless the
    same data now shows that it was too little.
    """
    if known is None or known.metric != found.metric:
        return found, []
    mine = {rate_name(point.fmr): point for point in found.points}
    stay: dict[str, tuple[ThresholdPoint, str]] = {}
    for point in known.points:
        rate, same_data = rate_name(point.fmr), _is_same(point, found)
        better, as_much = mine.get(rate), (point.different_pairs or 0) <= found.different_pairs
        if better is None and not (same_data and as_much and rate in found.unsupported):
            stay[rate] = point, found.unsupported.get(rate, "not measured now")
        elif better is not None and not same_data and better.rests_on_less(point):
            stay[rate] = point, f"now {_support(better)}"
    points = [point for point, _ in stay.values()] + [point for rate, point in mine.items() if rate not in stay]
    points.sort(key=lambda point: -point.fmr)
    reasons = {rate: why for rate, why in (known.unsupported | found.unsupported).items() if rate not in stay | mine}
    words = [f"{rate} measured on {_support(point)} ({why})" for rate, (point, why) in stay.items()]
    if len(stay) == len(points):
        return known, words
    return found.model_copy(update={"points": tuple(points), "unsupported": reasons}), words


def _is_same(point: ThresholdPoint, found: Thresholds) -> bool:
    return point.data_fingerprint is not None and point.data_fingerprint == found.data_fingerprint


def _support(point: ThresholdPoint) -> str:
    return f"{point.classes or 0:,} classes, {point.different_pairs or 0:,} different pairs"
