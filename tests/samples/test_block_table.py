"""Blocks of samples, and the order of the classes."""

import numpy as np

from harness.datasets.haxby import Haxby
from harness.samples.block_table import count_first, tabulate_blocks
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi, load_samples
from harness.samples.signal import Signal


def load(shared_data, **signal):
    recording = Haxby(shared_data / "haxby2001-slice").load(1)
    return load_samples(recording, make_contrast(["face", "cat"]), Roi(), Signal(**signal))


def test_haxby_shows_face_first_in_nine_of_twelve_runs(shared_data):
    table = tabulate_blocks(load(shared_data))
    assert len(table.runs) == 24
    assert set(table.n_volumes) == {9}
    assert count_first(table, "face", "cat") == (9, 12)
    assert count_first(table, "cat", "face") == (3, 12)


def test_averaged_blocks_are_the_same_blocks(shared_data):
    volumes, averaged = (tabulate_blocks(load(shared_data, average_blocks=mean)) for mean in (False, True))
    np.testing.assert_array_equal(volumes.classes, averaged.classes)
    np.testing.assert_array_equal(volumes.onsets, averaged.onsets)
    assert set(averaged.n_volumes) == {1}


def test_blocks_of_other_conditions_separate_blocks(make_samples):
    y = ["face", "face", "cat", "face", "face", "cat"]
    samples = make_samples(np.zeros((6, 2)), y, [0, 0, 0, 1, 1, 1])
    table = tabulate_blocks(samples)
    assert table.classes.tolist() == ["face", "cat", "face", "cat"]
    assert table.n_volumes.tolist() == [2, 1, 2, 1]
    assert table.of_sample.tolist() == [0, 0, 1, 2, 2, 3]
    assert count_first(table, "face", "cat") == (2, 2)
