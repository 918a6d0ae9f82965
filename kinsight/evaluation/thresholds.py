"""Thresholds measured by an evaluation, kept where searches look for them: in the bundle."""

from kinsight import progress, storage
from kinsight.errors import StorageError
from kinsight.models import Thresholds, load_header, write_thresholds


def keep_thresholds(
    bundle: storage.AddressLike, found: Thresholds | None, gallery_fingerprint: str | None = None
) -> None:
    """Write `found` into the bundle; where they would mislead or cannot be written, say why and leave it as it is.

    gallery_fingerprint: of the images searched in, where they are others than the queries.
    """
    if found is None or not found.points:
        return
    header = load_header(bundle)
    if header.data_fingerprint is not None and header.data_fingerprint in (found.data_fingerprint, gallery_fingerprint):
        progress.warn("no thresholds are written into the bundle: these are its training images, so they mislead")
        return
    if header.metric != found.metric:
        progress.warn(f"no thresholds are written into the bundle: its metric is {header.metric}, not {found.metric}")
        return
    try:
        write_thresholds(bundle, found)
    except StorageError as error:
        progress.warn(f"no thresholds are written into the bundle: {error.message}")
        return
    strictest = found.point()
    progress.say(
        f"threshold   {strictest.threshold:.4f} accepts {100 * strictest.tmr:.1f} % of same pairs and "
        f"{strictest.fmr:g} of different ones (on other classes {strictest.fmr_low:.1g} to {strictest.fmr_high:.1g}); "
        "now in the bundle"
    )
