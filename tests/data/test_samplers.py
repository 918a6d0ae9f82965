"""Which images meet in a batch: pure functions of labels, batch size, seed and epoch."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinsight.data.samplers import build_sampler
from kinsight.errors import DataError
from kinsight.specs.train import PerClassSampler, ShuffleSampler


def shuffle(num_images, batch_size, seed=0):
    return build_sampler(ShuffleSampler(), np.zeros(num_images, np.int64), batch_size=batch_size, seed=seed)


def per_class(label_N, batch_size, samples=4, seed=0):
    spec = PerClassSampler(samples_per_class=samples)
    return build_sampler(spec, np.asarray(label_N), batch_size=batch_size, seed=seed)


@given(st.integers(1, 300), st.integers(1, 70), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_shuffle_shows_every_image_once(num_images, batch_size, epoch):
    if batch_size > num_images:
        return
    sampler = shuffle(num_images, batch_size)
    batches = sampler.epoch(epoch)
    assert len(batches) == sampler.num_batches == -(-num_images // batch_size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(num_images))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert min(sizes) >= batch_size / 2
    assert all(size == batch_size for size in sizes[:-2])


def same(one, other):
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("make", [lambda s: shuffle(200, 32, s), lambda s: per_class(np.arange(200) % 20, 32, 4, s)])
def test_epochs_depend_on_seed_and_epoch_alone(make):
    assert same(make(1).epoch(3), make(1).epoch(3))
    sampler = make(1)
    sampler.epoch(0)
    assert same(sampler.epoch(3), make(1).epoch(3))
    assert not same(make(1).epoch(3), make(1).epoch(4))
    assert not same(make(1).epoch(3), make(2).epoch(3))


@pytest.mark.parametrize("make", [lambda: shuffle(10, 64), lambda: per_class(np.arange(10) % 2, 64)])
def test_a_batch_larger_than_the_set_names_both_numbers(make):
    with pytest.raises(DataError, match=r"batch\.size=64.* 10 images"):
        make()


def test_per_class_batches_hold_whole_classes():
    label_N = np.repeat(np.arange(30), 10)
    sampler = per_class(label_N, 48)
    batches = sampler.epoch(0)
    assert len(batches) == sampler.num_batches == 7  # 300 images, rounded up
    for batch in batches:
        assert len(set(batch.tolist())) == 48
        _, counts = np.unique(label_N[batch], return_counts=True)
        assert counts.tolist() == [4] * 12


@given(st.lists(st.integers(2, 9), min_size=3, max_size=40), st.integers(2, 5), st.integers(2, 6), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_per_class_rules_hold_for_any_class_sizes(sizes, samples, classes, epoch):
    label_N = np.repeat(np.arange(len(sizes)) * 3, sizes)  # class numbers with gaps
    label_N = label_N[np.random.default_rng(0).permutation(len(label_N))]
    classes = min(classes, len(sizes))
    if samples * classes > len(label_N):
        return
    batches = per_class(label_N, samples * classes, samples).epoch(epoch)
    for batch in batches:
        found, counts = np.unique(label_N[batch], return_counts=True)
        assert len(found) == classes
        assert set(counts.tolist()) == {samples}
        for label in found:
            images = set(batch[label_N[batch] == label].tolist())
            assert len(images) == min(samples, sizes[label // 3])  # all it has before any is repeated
    seen = np.bincount(label_N[np.concatenate(batches)] // 3, minlength=len(sizes)) // samples
    assert seen.max() - seen.min() <= 2  # classes come round equally often


def test_per_class_shows_all_images_in_the_long_run():
    label_N = np.repeat(np.arange(6), 7)
    sampler = per_class(label_N, 12)
    assert len(set(np.concatenate([index for e in range(4) for index in sampler.epoch(e)]).tolist())) == 42


def test_classes_with_one_image_are_left_out_and_counted():
    label_N = np.array([0, 1, 1, 1, 2, 2, 2, 3, 4, 4])
    with pytest.warns(UserWarning, match="2 of 5 classes have a single image"):
        sampler = per_class(label_N, 4, 2)
    assert set(label_N[np.concatenate(sampler.epoch(0))].tolist()) == {1, 2, 4}


def test_too_few_classes_is_an_error_with_the_numbers():
    with warnings.catch_warnings(), pytest.raises(DataError, match=r"2 classes .*\(1 more .*single.*needs 3"):
        per_class([0, 0, 1, 1, 2, 0], 6, 2)
    with pytest.raises(DataError, match=r"1 class has two or more[^→]*→ give more classes a second image"):
        per_class([0, 0, 0, 0], 2, 2)


def test_ranks_share_a_global_batch():
    batch = shuffle(100, 30).epoch(0)[0]
    np.testing.assert_array_equal(np.concatenate(np.array_split(batch, 4)), batch)
