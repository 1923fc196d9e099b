"""Design variables: what a block's place in the sequence, its length and the recording's confounds are."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd

from harness.checks.design_variables import DECODED, MAX_CONFOUNDS, START, collect_variables
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi, load_samples
from harness.samples.signal import Signal

RUNS = [
    [("rest", 2), ("house", 3), ("face", 4), ("rest", 1), ("cat", 2)],
    [("cat", 2), ("rest", 1), ("shoe", 3), ("face", 4)],
]


def collect(load_design, recording, **signal):
    samples, options = load_design(recording, **signal)
    variables, notices = collect_variables(samples, options)
    return samples, {variable.name: variable for variable in variables}, notices


def per_block(variable, samples):
    """Return the value of every block, after checking that it is constant inside it."""
    values = []
    for block in np.unique(samples.blocks):
        rows = variable.values[samples.blocks == block]
        assert (rows == rows[0]).all()
        values.append(rows[0].tolist())
    return values


def test_the_sequence_of_the_blocks_is_described(record_design, load_design):
    samples, found, _ = collect(load_design, replace(record_design(RUNS), t_r=None))
    # Blocks: face, cat in the first scanner run; cat, face in the second one.
    assert per_block(found["order"], samples) == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert per_block(found["position"], samples) == [[2], [3], [1], [3]]
    assert per_block(found["onset"], samples) == [[5], [10], [0], [6]]
    assert per_block(found["block length"], samples) == [[4], [2], [2], [4]]
    names = ["house", DECODED, START, "shoe"]
    columns = sorted(set(names))
    expected = [[float(name == column) for column in columns] for name in names]
    assert per_block(found["predecessor"], samples) == expected


def test_onsets_are_in_seconds_where_the_repetition_time_is_known(record_design, load_design):
    samples, found, _ = collect(load_design, replace(record_design(RUNS), t_r=2.5))
    assert per_block(found["onset"], samples) == [[12.5], [25], [0], [15]]
    assert "seconds" in found["onset"].description


def test_lag_trimming_and_averages_keep_the_sequence(record_design, load_design):
    recording = replace(record_design(RUNS), t_r=None)
    samples, found, _ = collect(load_design, recording, lag=1, trim_first=1, average_blocks=True)
    # Delayed by a volume, the last block of a run loses one beyond its end; that of cat is then trimmed away.
    assert samples.y.tolist() == ["face", "cat", "face"]
    assert per_block(found["position"], samples) == [[2], [1], [3]]
    assert per_block(found["onset"], samples) == [[6], [1], [7]]
    assert per_block(found["block length"], samples) == [[4], [2], [3]]


def test_position_is_left_out_where_all_blocks_are_decoded(record_design, load_design):
    runs = [[("face", 3), ("rest", 1), ("cat", 3)], [("cat", 3), ("rest", 1), ("face", 3)]]
    _, found, _ = collect(load_design, record_design(runs))
    assert "position" not in found


def test_many_blocks_have_a_number_as_their_order(record_design, load_design):
    runs = [[("face", 1), ("rest", 1), ("cat", 1), ("rest", 1)] * 5] * 2
    _, found, _ = collect(load_design, record_design(runs))
    assert found["order"].values[:, 0].tolist() == [*range(1, 11), *range(1, 11)]


def test_relabelling_leaves_the_variables_as_they_are(record_design, load_design):
    recording = record_design(RUNS)
    swapped = recording.labels.replace({"condition": {"face": "cat", "cat": "face"}})
    _, found, _ = collect(load_design, recording)
    _, after, _ = collect(load_design, replace(recording, labels=swapped))
    assert list(found) == list(after)
    for name in found:
        np.testing.assert_array_equal(found[name].values, after[name].values)


def test_the_global_mean_is_that_of_the_image_inside_the_mask(record_design, load_design):
    recording = record_design(RUNS)
    samples, found, _ = collect(load_design, recording)
    image = np.asarray(nib.load(recording.bold).dataobj, dtype=float)
    expected = image.reshape(-1, image.shape[-1]).mean(axis=0)[samples.volumes]
    np.testing.assert_allclose(found["global mean"].values[:, 0], expected, rtol=1e-12)


def test_the_global_mean_is_detrended_and_averaged_as_the_voxels_are(record_design, load_design):
    recording = record_design(RUNS)
    _, found, _ = collect(load_design, recording, detrend=True, average_blocks=True)
    # The mean of the cleaned voxels themselves, which load_samples returns without standardisation.
    samples, _ = load_design(recording, detrend=True, average_blocks=True, zscore="none")
    np.testing.assert_allclose(found["global mean"].values[:, 0], samples.X.mean(axis=1), atol=1e-3)


def confounds_of(recording, **columns):
    n = len(recording.labels)
    rng = np.random.default_rng(0)
    table = {name: rng.normal(size=n) if values is None else values for name, values in columns.items()}
    return replace(recording, confounds=pd.DataFrame(table))


def test_the_six_motion_parameters_are_one_variable(record_design, load_design):
    names = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    recording = confounds_of(record_design(RUNS), **dict.fromkeys(names), csf=None)
    samples, found, notices = collect(load_design, recording)
    np.testing.assert_array_equal(
        found["motion"].values, recording.confounds[names].to_numpy()[samples.volumes]
    )
    assert found["csf"].values.shape == (len(samples.y), 1)
    assert notices == []


def test_derivatives_may_start_with_a_gap_and_other_gaps_are_noted(record_design, load_design):
    recording = record_design(RUNS)
    runs = recording.labels["run"].to_numpy()
    starts = np.append(True, runs[1:] != runs[:-1])
    course = np.arange(len(runs), dtype=float)
    gap = np.where(np.arange(len(runs)) == 5, np.nan, course)
    recording = confounds_of(recording, step=np.where(starts, np.nan, course), broken=gap)
    samples, found, notices = collect(load_design, recording)
    assert "broken" not in found
    assert "1 of 2 confounds" in notices[0] and "broken" in notices[0]
    # The first volume of each scanner run takes the next one's value.
    expected = np.where(starts, course + 1, course)[samples.volumes]
    np.testing.assert_array_equal(found["step"].values[:, 0], expected)


def test_of_a_long_table_only_summaries_are_variables(record_design, load_design):
    many = {f"a_comp_cor_{i:02d}": None for i in range(MAX_CONFOUNDS + 1)}
    recording = confounds_of(record_design(RUNS), **many, framewise_displacement=None)
    _, found, notices = collect(load_design, recording)
    assert not any(name.startswith("a_comp_cor") for name in found)
    assert "framewise_displacement" in found
    assert f"{MAX_CONFOUNDS + 1} of {MAX_CONFOUNDS + 2} confounds" in notices[0]


def test_confounds_that_the_analysis_regresses_out_are_described_as_such(record_design):
    recording = confounds_of(record_design(RUNS), drift=None, other=None)
    signal = Signal(confounds=["drift"])
    samples = load_samples(recording, make_contrast(["face", "cat"]), Roi(), signal)
    variables, _ = collect_variables(samples, signal)
    (found,) = [variable for variable in variables if variable.name in ("drift", "other")]
    assert "regresses out" in found.description


def test_confounds_of_fmriprep_are_variables(bids_study, compose):
    spec = compose(
        "dataset=bids", f"dataset.root={bids_study()}", "subject=1", "roi=brain", "dataset.task=objects"
    )
    question = spec.question
    samples = load_samples(spec.dataset.load(1), question.contrast, question.roi, question.signal)
    variables, _ = collect_variables(samples, question.signal)
    found = {variable.name: variable for variable in variables}
    expected = [
        np.sin(volume - 33 * (run - 1) + run)
        for volume, run in zip(samples.volumes, samples.runs, strict=True)
    ]
    np.testing.assert_allclose(found["motion"].values[:, 0], expected, atol=1e-6)
    assert np.isfinite(found["trans_x_derivative1"].values).all()
