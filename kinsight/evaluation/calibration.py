"""What labelled images told of a classifier, kept where predictions look for it: in the bundle."""

from collections.abc import Iterable

from kinsight import progress, storage
from kinsight.data.sketch import share_in
from kinsight.data.sources.lacking import shortened
from kinsight.errors import StorageError
from kinsight.metrics import Temperature
from kinsight.metrics.label_thresholds import NEVER
from kinsight.models import load_header, write_calibration
from kinsight.reports.classified import Classified

LEAST_IMAGES = 20  # below, what they ask for is chance


def keep_calibration(
    bundle: storage.AddressLike,
    found: Classified,
    fingerprint: str | None,
    uris: Iterable[str] = (),
    *,
    replace: bool = False,
) -> bool:
    """Put temperature and thresholds into the bundle; where they would mislead or cannot be written, say why not.

    What a bundle has stays unless `replace`: thresholds chosen on the images that a model is then tested on would make
    the test look better than it is. A temperature at its bound is none; the thresholds do without it. fingerprint,
    uris: of the images judged by. Returns whether anything was written.
    """
    header = load_header(bundle)
    if (header.temperature is not None or header.label_thresholds is not None) and not replace:
        progress.say("kept        the bundle's own temperature and thresholds; --replace-thresholds replaces them")
        return False
    shared = share_in(header.data_sketch, uris)
    if shared or (header.data_fingerprint is not None and header.data_fingerprint == fingerprint):
        share = f"about {100 * shared:.0f} % of these" if shared else "these"
        progress.warn(f"neither temperature nor thresholds are written: {share} are training images, so they mislead")
        return False
    if len(found) < LEAST_IMAGES:
        progress.say(f"calibrated  no: {len(found)} images say too little, {LEAST_IMAGES} are needed")
        return False
    thresholds = found.chosen.threshold_C.tolist() if found.chosen is not None else None
    fitted = found.fitted
    if fitted.at_bound:
        _tell_bound(fitted, thresholds is not None)
        if thresholds is None:
            return False
    try:
        temperature = None if fitted.at_bound else fitted.temperature
        write_calibration(bundle, temperature=temperature, label_thresholds=thresholds)
    except StorageError as error:
        progress.warn(f"neither temperature nor thresholds are written into the bundle: {error.message}")
        return False
    if not fitted.at_bound:
        likely = f"negative log-likelihood {fitted.nll_before:.4f}, with it {fitted.nll_after:.4f}"
        progress.say(f"temperature {fitted.temperature:.3f} ({likely}); now in the bundle")
    if found.chosen is not None:
        _say_thresholds(found)
    return True


def _tell_bound(fitted: Temperature, thresholds: bool) -> None:
    """Why there is no temperature, and what to do about it."""
    cause = (
        "typical of the loss asl, whose probabilities no temperature brings down, and of too little training: go by "
        "what is predicted rather than by probabilities, train longer, or with another loss"
        if fitted.temperature > 1
        else "the logits are far too small for how often they are right: train longer"
    )
    other = "; the thresholds are" if thresholds else ""
    progress.warn(f"no temperature is written{other}: the best one is at its bound of {fitted.temperature:g}, {cause}")


def _say_thresholds(found: Classified) -> None:
    chosen = found.chosen
    assert chosen is not None
    if chosen.kept:
        names = shortened([found.class_names[label] for label in chosen.kept])
        progress.say(f"kept        the thresholds of labels of which nothing is known here: {names}")
    used_C = chosen.threshold_C.clone()
    used_C[list(chosen.kept)] = NEVER
    used_C = used_C[used_C < NEVER]
    low, high = (float(used_C.min()), float(used_C.max())) if len(used_C) else (NEVER, NEVER)
    few = f"; {len(chosen.few)} labels with few images share {chosen.shared:.3f}" if chosen.few else ""
    other = "other " if chosen.kept else ""
    if len(used_C):
        progress.say(f"thresholds  {low:.3f} to {high:.3f}, one for each {other}label{few}; now in the bundle")
    if chosen.unreachable:
        names = shortened([found.class_names[label] for label in chosen.unreachable])
        progress.warn(f"labels that will never be predicted, since no threshold does for them what is asked: {names}")
