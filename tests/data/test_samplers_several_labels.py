"""Samplers where images have several labels: no image twice in a batch, no negative that is alike."""

import csv
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinsight.data import Records
from kinsight.data.samplers import build_sampler
from kinsight.errors import DataError
from kinsight.specs.samplers import ClassBalancedSampler, HierarchicalSampler, PerClassSampler, TripletSampler

CARDS = Path(__file__).resolve().parents[2] / "../shared/data/cards240.zip"
label_sets = st.lists(st.sets(st.integers(0, 5), max_size=4), min_size=6, max_size=40)


def records(label_lists, **columns):
    lists = [list(each) for each in label_lists]
    names = [str(number) for number in range(max((max(each, default=0) for each in lists), default=0) + 1)]
    uri = pa.array([f"{number}.png" for number in range(len(lists))])
    return Records(pa.table({"uri": uri, "labels": pa.array(lists, pa.list_(pa.int32())), **columns}), names)


def cards():
    if not CARDS.exists():
        pytest.skip(f"no {CARDS}")
    with zipfile.ZipFile(CARDS) as held:
        rows = list(csv.reader(io.StringIO(held.read("cards240/cards_train.csv").decode())))
    return [[number for number, cell in enumerate(row[1:]) if cell.strip() == "1"] for row in rows[1:]]


def most_different(images_of, slots):
    """As many different images as places of these classes can show, by trying to improve until nothing helps."""
    place_of = {}

    def settle(place, met):
        for record in images_of[slots[place]]:
            if record not in met:
                met.add(record)
                if record not in place_of or settle(place_of[record], met):
                    place_of[record] = place
                    return True
        return False

    return sum(settle(place, set()) for place in range(len(slots)))


@pytest.mark.parametrize("kind", ["per-class", "class-balanced"])
def test_cards_meet_once_in_a_batch(kind):
    labels = cards()
    spec = PerClassSampler(samples_per_class=4) if kind == "per-class" else ClassBalancedSampler()
    sampler = build_sampler(spec, records(labels), batch_size=24, seed=0)
    shown = np.zeros(len(labels), int)
    for epoch in range(5):
        for batch in sampler.epoch(epoch):
            assert len(set(batch.tolist())) == 24
            shown[batch] += 1
            if kind == "per-class":
                assert all(set.intersection(*(set(labels[i]) for i in four)) for four in batch.reshape(6, 4))
    assert (shown > 0).mean() > 0.8


@given(label_sets, st.integers(2, 4), st.integers(2, 5), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_a_batch_has_as_many_different_images_as_its_classes_allow(labels, samples, classes, epoch):
    images_of = {c: [n for n, each in enumerate(labels) if c in each] for c in range(6)}
    usable = {c: held for c, held in images_of.items() if len(held) > 1}
    if len(usable) < classes or samples * classes > len(labels) or any(len(held) == 1 for held in images_of.values()):
        return
    spec = PerClassSampler(samples_per_class=samples)
    sampler = build_sampler(spec, records(labels), batch_size=samples * classes, seed=0)
    for batch in sampler.epoch(epoch):
        blocks = batch.reshape(classes, samples).tolist()
        assert any(len(set(batch.tolist())) == most_different(images_of, slots) for slots in _readings(blocks, labels))
        for block in blocks:
            fitting = [c for c in usable if all(c in labels[n] for n in block)]
            assert any(len(set(block)) == min(samples, len(usable[c])) for c in fitting)


def _readings(blocks, labels):
    """Each way to say which class every block shows, all different."""

    def extend(number, chosen):
        if number == len(blocks):
            yield [slot for slot in chosen for _ in blocks[0]]
            return
        for slot in set.intersection(*(set(labels[n]) for n in blocks[number])) - set(chosen):
            yield from extend(number + 1, [*chosen, slot])

    return extend(0, [])


def test_an_image_makes_room_where_another_class_has_no_other():
    labels = [[0, 1], [0], [0], [1]]  # class 1 has images 0 and 3 only, so class 0 must show 1 and 2
    sampler = build_sampler(PerClassSampler(samples_per_class=2), records(labels), batch_size=4, seed=0)
    for epoch in range(20):
        assert all(sorted(batch.tolist()) == [0, 1, 2, 3] for batch in sampler.epoch(epoch))


def test_images_are_repeated_only_where_classes_have_too_few():
    labels = [[0, 1], [0, 1], [2], [2]]
    sampler = build_sampler(PerClassSampler(samples_per_class=2), records(labels), batch_size=4, seed=0)
    for epoch in range(20):
        for batch in sampler.epoch(epoch):
            assert all(len(set(pair)) == 2 for pair in batch.reshape(2, 2).tolist())


def test_super_classes_and_several_labels():
    generator = np.random.default_rng(0)
    labels = [sorted(set((generator.integers(0, 4, 2) + 4 * (n % 2)).tolist())) for n in range(80)]
    held = records(labels, group=pa.array([n % 2 for n in range(80)], pa.int32()))
    spec = HierarchicalSampler(samples_per_class=4, super_classes=1)
    sampler = build_sampler(spec, held, batch_size=16, seed=0)
    assert all(len(set(batch.tolist())) == 16 for epoch in range(5) for batch in sampler.epoch(epoch))


def test_negatives_of_cards_share_no_label():
    labels = cards()
    sampler = build_sampler(TripletSampler(), records(labels), batch_size=24, seed=0)
    for epoch in range(5):
        for anchor, positive, negative in np.concatenate(sampler.epoch(epoch)).reshape(-1, 3):
            assert anchor != positive and set(labels[anchor]) & set(labels[positive])
            assert not set(labels[anchor]) & set(labels[negative])


@given(label_sets, st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_triplets_hold_for_any_labels_or_are_refused(labels, epoch):
    def alike(one, other):
        return bool(labels[one] & labels[other])

    names = range(len(labels))
    paired = [a for a in names if any(alike(a, p) for p in names if p != a)]
    possible = any(labels[n] and not alike(a, n) for a in paired for n in names)
    held = records(labels)
    if not possible:
        with pytest.raises(DataError, match="a triplet needs"):
            build_sampler(TripletSampler(), held, batch_size=6, seed=0)
        return
    sampler = build_sampler(TripletSampler(), held, batch_size=6, seed=0)
    again = build_sampler(TripletSampler(), held, batch_size=6, seed=0)
    again.epoch(epoch + 1)
    batches = sampler.epoch(epoch)
    np.testing.assert_array_equal(batches, again.epoch(epoch))
    for anchor, positive, negative in np.concatenate(batches).reshape(-1, 3):
        assert anchor != positive and alike(anchor, positive)
        assert labels[negative] and not alike(anchor, negative)


def test_every_anchor_with_a_negative_comes_up():
    labels = [[0], [0], [0, 1], [0, 1], [1], [1], [0, 1, 2], [2]]  # 6 shares a label with every other image
    sampler = build_sampler(TripletSampler(), records(labels), batch_size=6, seed=0)
    triplets = np.concatenate([np.concatenate(sampler.epoch(epoch)).reshape(-1, 3) for epoch in range(60)])
    assert set(triplets[:, 0].tolist()) == {0, 1, 2, 3, 4, 5, 7}


def test_a_label_named_twice_is_one():
    labels = [[0, 0], [0], [1, 1], [1]]
    held = records(labels)
    for batch in build_sampler(PerClassSampler(samples_per_class=2), held, batch_size=4, seed=0).epoch(0):
        assert sorted(batch.tolist()) == [0, 1, 2, 3]
    triplets = build_sampler(TripletSampler(), held, batch_size=3, seed=0)
    assert all(batch[0] != batch[1] for epoch in range(20) for batch in triplets.epoch(epoch))


RECORDED = {"per-class": 2615519628, "class-balanced": 850687659, "hierarchical": 853224298, "triplets": 4010980935}


@pytest.mark.parametrize(
    "spec",
    [
        PerClassSampler(samples_per_class=4),
        ClassBalancedSampler(),
        HierarchicalSampler(samples_per_class=4, super_classes=2),
        TripletSampler(),
    ],
    ids=lambda spec: spec.kind,
)
def test_batches_of_single_labels_stay_as_they_were(spec):
    """A training begun with an earlier version goes on with the same batches."""
    label_N = np.random.default_rng(7).integers(0, 12, 150)
    label_N[label_N == 3] = 4
    label_N[:2] = 3
    held = records(label_N[:, None].tolist(), group=pa.array(label_N // 4, pa.int32()))
    sampler = build_sampler(spec, held, batch_size=24, seed=5)
    order = np.concatenate([np.concatenate(sampler.epoch(epoch)) for epoch in range(3)])
    assert zlib.crc32(order.astype("<i8").tobytes()) == RECORDED[spec.kind]
