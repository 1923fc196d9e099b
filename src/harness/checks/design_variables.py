"""Design variables: what a decoder could learn from the design of an experiment instead of brain activity.

Each variable takes the place of the voxels in an otherwise unchanged analysis [1]_. If it predicts the
classes, a decoder of brain activity that depends on the variable predicts them as well.

References
----------
.. [1] Görgen, Hebart, Allefeld, Haynes (2018), NeuroImage 180:19-30, doi:10.1016/j.neuroimage.2017.12.083.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.datasets.events import REST
from harness.samples.blocks import NO_CONDITION, average_blocks, find_blocks, trim_blocks
from harness.samples.cache import SampleCache
from harness.samples.global_mean import read_global_mean
from harness.samples.samples import RecordedSamples, choose_volumes
from harness.samples.signal import Signal

ORDER, GLOBAL_MEAN = "order", "global mean"  # variables that conclusions name
START = "start of the scanner run"
DECODED = "a decoded condition"
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")  # fMRIPrep's names
SUMMARIES = ("framewise_displacement", "std_dvars", "csf", "white_matter")
MAX_CONFOUNDS = 10  # of a longer table, only the columns above are variables
MAX_LEVELS = 8  # up to so many places of an order have a column each, so that ABBA is found as well as AB


@dataclass(frozen=True, eq=False)
class DesignVariable:
    """One design variable of samples.

    Attributes
    ----------
    name : str
    description : str
        What it is, with its unit, for people who read the page.
    values : ndarray of shape (n_samples, n_columns), float64
    """

    name: str
    description: str
    values: np.ndarray

    @property
    def varies(self) -> bool:
        """Whether it differs between samples; otherwise it cannot predict anything."""
        return bool((np.ptp(self.values, axis=0) > 0).any())


def collect_variables(
    samples: RecordedSamples, signal: Signal, cache: SampleCache | None = None
) -> tuple[list[DesignVariable], list[str]]:
    """Return the design variables of samples, and notices about what cannot be checked.

    No variable depends on the classes of the blocks, so that relabelling the blocks leaves all of them
    unchanged. Therefore, all decoded conditions are one predecessor: of two conditions that follow each
    other, each would otherwise be known from the other in any order.

    The scanner run itself is none of them: labels are exchanged within scanner runs, so that a test cannot
    judge it.

    Parameters
    ----------
    signal : Signal
        That of the samples.
    cache : SampleCache, optional
        See `harness.samples.global_mean.read_global_mean`.
    """
    recording = samples.sources.recording
    _, _, conditions = choose_volumes(recording, samples.contrast, signal)
    runs = recording.labels["run"].to_numpy()
    variables = _sequence_variables(samples, conditions, runs)
    global_mean = read_global_mean(samples, signal, cache)[:, np.newaxis]
    courses = {GLOBAL_MEAN: (global_mean, "mean signal of the mask, cleaned as the voxels are")}
    confounds, notices = _confound_courses(samples)
    for name, (course, description) in (courses | confounds).items():
        values = _select_samples(course, samples, conditions, runs, signal)
        variables.append(DesignVariable(name, description, values))
    return variables, notices


def _sequence_variables(
    samples: RecordedSamples, conditions: np.ndarray, runs: np.ndarray
) -> list[DesignVariable]:
    """Return the variables that the sequence of blocks determines; they are constant within blocks."""
    blocks = find_blocks(conditions, runs)
    _, first = np.unique(blocks, return_index=True)
    run_of_block = runs[first]
    shown = ~np.isin(conditions[first], (REST, NO_CONDITION))
    decoded = np.isin(np.arange(len(first)), samples.blocks)
    order, position = (_count_in_runs(counted, run_of_block) for counted in (decoded, shown))
    run_starts = {run: index for index, run in reversed(list(enumerate(runs.tolist())))}
    onset = (first - np.array([run_starts[run] for run in run_of_block.tolist()])).astype(float)
    t_r = samples.sources.recording.t_r
    predecessors = _find_predecessors(conditions[first], run_of_block, shown, samples.contrast.conditions)

    def variable(name: str, description: str, values: np.ndarray) -> DesignVariable:
        return DesignVariable(name, description, values[samples.blocks].reshape(len(samples.blocks), -1))

    several = np.unique(order[decoded])
    ranks = order if len(several) > MAX_LEVELS else (order[:, np.newaxis] == several).astype(float)
    names = np.unique(predecessors[decoded])
    variables = [
        variable(ORDER, "place of the block among the decoded blocks of its scanner run", ranks),
        variable("position", "place of the block among all blocks of its scanner run", position),
        variable(
            "onset",
            f"start of the block in its scanner run ({'volumes' if t_r is None else 'seconds'})",
            onset * (1.0 if t_r is None else t_r),
        ),
        variable(
            "predecessor",
            f"what was shown before it: {_shorten(names.tolist())}",
            (predecessors[:, np.newaxis] == names).astype(float),
        ),
        variable("block length", "volumes of the block, before any are left out", np.bincount(blocks) * 1.0),
    ]
    same = np.array_equal(order[decoded], position[decoded])
    return [found for found in variables if not (same and found.name == "position")]


def _count_in_runs(counted: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Return how many of the blocks so far in the same scanner run are counted, from 1."""
    totals = np.cumsum(counted)
    before = {
        run: total
        for run, total in reversed(list(zip(runs.tolist(), (totals - counted).tolist(), strict=True)))
    }
    return (totals - np.array([before[run] for run in runs.tolist()])).astype(float)


def _find_predecessors(
    conditions: np.ndarray, runs: np.ndarray, shown: np.ndarray, decoded: Sequence[str]
) -> np.ndarray:
    """Return the last condition before every block in its scanner run; rest between them does not count."""
    predecessors, previous, previous_run = [], START, None
    for condition, run, counts in zip(conditions.tolist(), runs.tolist(), shown.tolist(), strict=True):
        if run != previous_run:
            previous, previous_run = START, run
        predecessors.append(previous)
        if counts:
            previous = DECODED if condition in decoded else condition
    return np.array(predecessors, dtype=object).astype(str)


def _confound_courses(samples: RecordedSamples) -> tuple[dict[str, tuple[np.ndarray, str]], list[str]]:
    """Return the values and the description of confounds, by variable, and notices about the others.

    They are the columns that the analysis regresses out, or otherwise those of the recording.
    """
    sources = samples.sources
    removed = sources.confounds is not None
    table = sources.confounds if removed else sources.recording.confounds
    if table is None:
        return {}, []
    remark = ", which the analysis regresses out" if removed else ""
    runs = sources.recording.labels["run"].to_numpy()
    courses: dict[str, tuple[np.ndarray, str]] = {}
    motion = [name for name in MOTION if name in table]
    others = [str(name) for name in table.columns if name not in motion]
    left_out = []
    if not removed and len(others) > MAX_CONFOUNDS:
        left_out = [name for name in others if name not in SUMMARIES]
        others = [name for name in others if name in SUMMARIES]
    groups = ({"motion": motion} if motion else {}) | {name: [name] for name in others}
    for name, columns in groups.items():
        values = _fill_starts(table[columns], runs)
        if np.isfinite(values).all():
            listed = f"{', '.join(columns)} of the confounds{remark}"
            courses[name] = (values, listed)
        else:
            left_out += columns
    notices = [
        f"{len(left_out)} of {table.shape[1]} confounds are not checked ({_shorten(left_out)}): they have "
        f"gaps, or the table has more than {MAX_CONFOUNDS} columns; signal.confounds=[...] selects columns"
    ]
    return courses, notices if left_out else []


def _fill_starts(table: pd.DataFrame, runs: np.ndarray) -> np.ndarray:
    """Return columns as numbers, NaN where there is none; derivatives, which start with a gap, are filled."""
    numbers = table.apply(pd.to_numeric, errors="coerce").reset_index(drop=True)
    leading = ~numbers.notna().groupby(runs).cummax()
    return numbers.mask(leading, numbers.groupby(runs).bfill()).to_numpy(dtype=float)


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _select_samples(
    course: np.ndarray, samples: RecordedSamples, conditions: np.ndarray, runs: np.ndarray, signal: Signal
) -> np.ndarray:
    """Return the rows of a time course that are samples, averaged over blocks as the samples are."""
    if not signal.average_blocks:
        return course[samples.volumes]
    kept = trim_blocks(conditions, runs, signal.trim_first, signal.trim_last)
    blocks = find_blocks(conditions, runs)
    rows = np.flatnonzero(kept & np.isin(blocks, samples.blocks))
    means, _ = average_blocks(course[rows], blocks[rows])
    return means
