"""Which images meet in a batch: pure functions of labels, batch size, seed and epoch."""

import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinsight.data import Records
from kinsight.data.samplers import build_sampler
from kinsight.errors import DataError
from kinsight.specs.samplers import (
    ClassBalancedSampler,
    HierarchicalSampler,
    PerClassSampler,
    ShuffleSampler,
    TripletSampler,
)


def records(labels, **columns):
    """labels: a class number, or a list of them, for each image."""
    lists = [list(label) if isinstance(label, list) else [int(label)] for label in labels]
    names = [str(number) for number in range(max((max(each, default=0) for each in lists), default=0) + 1)]
    uri = [f"{number}.png" for number in range(len(lists))]
    table = pa.table({"uri": pa.array(uri, pa.string()), "labels": pa.array(lists, pa.list_(pa.int32())), **columns})
    return Records(table, names)


def shuffle(num_images, batch_size, seed=0):
    return build_sampler(ShuffleSampler(), records([0] * num_images), batch_size=batch_size, seed=seed)


def per_class(label_N, batch_size, samples=4, seed=0):
    spec = PerClassSampler(samples_per_class=samples)
    return build_sampler(spec, records(label_N), batch_size=batch_size, seed=seed)


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


def test_without_reshuffling_every_epoch_is_the_first():
    labels = records([0] * 50)
    fixed = build_sampler(ShuffleSampler(reshuffle=False), labels, batch_size=8, seed=0)
    assert same(fixed.epoch(0), fixed.epoch(7))
    assert same(fixed.epoch(0), build_sampler(ShuffleSampler(), labels, batch_size=8, seed=0).epoch(0))


@given(st.lists(st.integers(0, 6), min_size=8, max_size=80), st.integers(1, 8), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_balanced_shows_every_class_equally_often(labels, batch_size, epoch):
    sampler = build_sampler(ClassBalancedSampler(), records(labels), batch_size=batch_size, seed=1)
    batches = sampler.epoch(epoch)
    assert [len(batch) for batch in batches] == [batch_size] * sampler.num_batches
    assert sampler.num_batches == -(-len(labels) // batch_size)
    shown = np.bincount(np.array(labels)[np.concatenate(batches)], minlength=7)[np.unique(labels)]
    assert shown.max() - shown.min() <= 1


def test_images_of_several_labels_belong_to_each_class():
    labels = [[0, 1], [1, 2], [2], [0], [], [1]]
    sampler = build_sampler(PerClassSampler(samples_per_class=2), records(labels), batch_size=4, seed=0)
    seen = set()
    for epoch in range(20):
        for batch in sampler.epoch(epoch):
            pairs = batch.reshape(2, 2)
            classes = [set(labels[a]) & set(labels[b]) for a, b in pairs]
            assert all(classes), "two images of a class share it"
            seen |= set(batch.tolist())
    assert seen == {0, 1, 2, 3, 5}, "an image without a label belongs to none"


def hierarchy(sizes, samples, super_classes, batch_size, images=5):
    """Super-classes with so many classes each, of `images` images."""
    classes = [(group, number) for group, size in enumerate(sizes) for number in range(size)]
    labels = np.repeat(np.arange(len(classes)), images)
    groups = np.repeat([group for group, _ in classes], images)
    spec = HierarchicalSampler(samples_per_class=samples, super_classes=super_classes)
    held = records(labels, group=pa.array(groups, pa.int32()))
    return build_sampler(spec, held, batch_size=batch_size, seed=0), labels, groups


def test_hierarchical_batches_come_from_few_super_classes():
    sampler, labels, groups = hierarchy([10, 10, 10, 10, 10], samples=4, super_classes=2, batch_size=32)
    shown = np.zeros(50, int)
    for epoch in range(30):
        for batch in sampler.epoch(epoch):
            assert len(batch) == 32
            classes, counts = np.unique(labels[batch], return_counts=True)
            assert counts.tolist() == [4] * 8, "eight classes of four images"
            assert len(set(batch.tolist())) == 32
            assert sorted(np.unique(groups[batch], return_counts=True)[1].tolist()) == [16, 16]
            shown[classes] += 1
    assert shown.min() > 0.6 * shown.mean()


def test_a_super_class_with_few_classes_is_joined_by_further_ones():
    sampler, labels, groups = hierarchy([1, 2, 9], samples=2, super_classes=2, batch_size=12)
    sizes = set()
    for epoch in range(20):
        for batch in sampler.epoch(epoch):
            counts = np.unique(labels[batch], return_counts=True)[1]
            assert counts.tolist() == [2] * 6
            sizes.add(tuple(np.unique(groups[batch], return_counts=True)[1] // 2))
    assert any(len(size) == 3 for size in sizes)


def test_super_classes_must_hold_whole_classes():
    held = records([0, 0, 1, 1], group=pa.array([0, 1, 1, 1], pa.int32()))
    spec = HierarchicalSampler(samples_per_class=2, super_classes=1)
    with pytest.raises(DataError, match="class 0 lies in several super-classes"):
        build_sampler(spec, held, batch_size=4, seed=0)
    with pytest.raises(DataError, match="has no column group; its columns are uri, labels"):
        build_sampler(spec, records([0, 0, 1, 1]), batch_size=4, seed=0)


def test_triplets_are_two_of_a_class_and_one_of_another():
    labels = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    sampler = build_sampler(TripletSampler(), records(labels), batch_size=6, seed=0)
    anchors, negatives, pairs = set(), set(), set()
    for epoch in range(100):
        for batch in sampler.epoch(epoch):
            for anchor, positive, negative in batch.reshape(2, 3):
                assert labels[anchor] == labels[positive] != labels[negative] and anchor != positive
                anchors.add(labels[anchor])
                negatives.add(labels[negative])
                pairs.add((anchor, positive))
    assert anchors == {0, 1, 3} and negatives == {0, 1, 2, 3}
    assert len(pairs) == 6 + 2 + 2, "every pair comes up"


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 0]])
def test_triplets_need_a_pair_and_another_class(labels):
    with pytest.raises(DataError, match="a triplet needs two classes, one with two images"):
        build_sampler(TripletSampler(), records(labels), batch_size=3, seed=0)
