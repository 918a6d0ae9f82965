"""A split that keeps the share of every label, also where images have several."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt


def stratified(
    offset_N1: npt.NDArray[np.int64], label_M: npt.NDArray[np.int64], num_classes: int, ratio: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Which images are for testing, about `ratio` of all and of each label.

    Image i has labels label_M[offset_N1[i] : offset_N1[i + 1]], each once. Iterative stratification: the rarest label
    that is left goes first, and each of its images goes where that label is wanted most (Sechidis et al. 2011, alg. 1);
    images without labels fill up at last.
    """
    count_N = np.diff(offset_N1)
    rng = np.random.default_rng([seed, 0x57])
    share_S = np.array([1 - ratio, ratio])
    wanted_S = share_S * len(count_N)
    left_C = np.bincount(label_M, minlength=num_classes)
    wanted_SC: npt.NDArray[np.float64] = share_S[:, None] * left_C.astype(np.float64)
    chosen_N = np.full(len(count_N), -1, np.int8)
    images_by_class = _images_by_class(offset_N1, label_M, num_classes)
    while left_C.any():
        rarest = int(np.argmin(np.where(left_C > 0, left_C, np.iinfo(np.int64).max)))
        images = images_by_class(rarest)
        for image in rng.permutation(images[chosen_N[images] < 0]).tolist():
            labels = label_M[offset_N1[image] : offset_N1[image + 1]]
            side = _side(wanted_SC[:, rarest], wanted_S, rng)
            chosen_N[image] = side
            wanted_S[side] -= 1
            wanted_SC[side, labels] -= 1
            left_C[labels] -= 1
    bare = rng.permutation(np.flatnonzero(count_N == 0))
    for_test = int(np.clip(round(wanted_S[1]), 0, len(bare)))
    chosen_N[bare] = 0
    chosen_N[bare[:for_test]] = 1
    return chosen_N == 1


def _side(of_label_S: npt.NDArray[np.float64], of_all_S: npt.NDArray[np.float64], rng: np.random.Generator) -> int:
    """Where this label is wanted most; if equally, where images are; if equally, by lot."""
    for wanted_S in (of_label_S, of_all_S):
        if abs(difference := float(wanted_S[1] - wanted_S[0])) > 1e-9:
            return int(difference > 0)
    return int(rng.integers(2))


def _images_by_class(
    offset_N1: npt.NDArray[np.int64], label_M: npt.NDArray[np.int64], num_classes: int
) -> Callable[[int], npt.NDArray[np.int64]]:
    row_M = np.repeat(np.arange(len(offset_N1) - 1), np.diff(offset_N1))
    order_M = np.argsort(label_M, kind="stable")
    start_C1 = np.concatenate([[0], np.cumsum(np.bincount(label_M, minlength=num_classes))])
    return lambda label: row_M[order_M[start_C1[label] : start_C1[label + 1]]]
