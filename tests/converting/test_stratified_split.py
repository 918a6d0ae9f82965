"""The split that keeps the share of every label."""

import numpy as np
import pytest

from kinsight.converting.stratify import stratified


def rows(label_lists):
    count_N = [len(labels) for labels in label_lists]
    return np.cumsum([0, *count_N]), np.array([label for labels in label_lists for label in labels], np.int64)


def shares(label_lists, chosen_N, classes):
    hot_NC = np.zeros((len(label_lists), classes))
    for row, labels in enumerate(label_lists):
        hot_NC[row, labels] = 1
    return hot_NC[chosen_N].sum(0), hot_NC.sum(0)


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5])
def test_each_label_keeps_its_share(ratio):
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(12, 0.5))  # some labels are rare
    label_lists = [sorted(set(rng.choice(12, rng.integers(0, 5), p=weights).tolist())) for _ in range(3000)]
    chosen_N = stratified(*rows(label_lists), 12, ratio, seed=1)
    test_C, all_C = shares(label_lists, chosen_N, 12)
    assert chosen_N.sum() == pytest.approx(ratio * 3000, abs=12)
    drawn_N = rng.permutation(3000) < ratio * 3000
    drawn_C, _ = shares(label_lists, drawn_N, 12)
    error_C, drawn_error_C = np.abs(test_C - ratio * all_C), np.abs(drawn_C - ratio * all_C)
    assert error_C.max() <= 3 and error_C.sum() < drawn_error_C.sum() / 3


def test_one_label_each_is_the_usual_stratified_split():
    label_lists = [[i % 3] for i in range(90)] + [[3], [3]]
    chosen_N = stratified(*rows(label_lists), 4, 0.1, seed=0)
    test_C, _ = shares(label_lists, chosen_N, 4)
    assert test_C.tolist() == [3, 3, 3, 0]


def test_it_depends_on_the_seed_alone():
    label_lists = [[i % 7, 7] for i in range(200)]
    first = stratified(*rows(label_lists), 8, 0.2, seed=3)
    assert (first == stratified(*rows(label_lists), 8, 0.2, seed=3)).all()
    assert (first != stratified(*rows(label_lists), 8, 0.2, seed=4)).any()


def test_images_without_labels_fill_up():
    chosen_N = stratified(*rows([[]] * 50), 3, 0.3, seed=0)
    assert chosen_N.sum() == 15
