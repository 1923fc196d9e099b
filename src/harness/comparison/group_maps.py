"""Searchlight maps over subjects in a common space, from stored runs that differ in subject alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.comparison.chance_level import CHANCE, refuse_half
from harness.comparison.comparability import describe_unfinished
from harness.comparison.group import SHARED_PARAMS, SubjectGroup, collect_groups
from harness.comparison.group_grid import GroupGrid, check_comparable, find_shared_voxels
from harness.errors import DesignError, HarnessError
from harness.inference.corrections import ALPHA
from harness.inference.group_tests import N_DRAWS, PrevalenceArrays, prevalence_arrays
from harness.inference.mean_map import (
    MAP_TOLERANCE,
    MIN_MAPS,
    MeanMapTest,
    permutation_of_mean_maps,
    standardise_maps,
)
from harness.inference.paired_tests import holm
from harness.inference.sign_flip_map import SignFlipMap, refuse_few, sign_flip_map
from harness.inference.tfce import compute_tfce, find_neighbours
from harness.tracking.stored_map import StoredMap, read_map
from harness.tracking.stored_run import StoredRun

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GroupMaps:
    """Maps over the subjects of one configuration; arrays have the shape (n_voxels,).

    Attributes
    ----------
    params : mapping of str to str
        The choices that all runs share.
    settings : mapping
        Of the searchlight: ``radius`` (mm), ``scorer``, ``statistic`` and so on; ``chance``, ``contrast``.
    subjects : DataFrame, one row per subject
        ``subject, run_id, n_voxels, n_maps, max_score, smallest_p_fwe``; the last is NaN without a test.
    grid : GroupGrid
    mean : ndarray
        Mean score over subjects.
    mean_test : MeanMapTest or None
        Permutation of means of the statistic; None where a subject has no test.
    prevalence : PrevalenceArrays or None
        Of the standardised statistic; None for the same reason.
    sign_flip : SignFlipMap or None
        Of the scores minus .5; None for few subjects, and where .5 is not the chance level.
    p_holm : float
        Smallest corrected p of the permutation of means, corrected for the number of groups by Holm's
        procedure; NaN without the test, or for one group.
    """

    params: Mapping[str, str]
    settings: Mapping[str, Any]
    subjects: pd.DataFrame
    grid: GroupGrid
    mean: Array
    mean_test: MeanMapTest | None
    prevalence: PrevalenceArrays | None
    sign_flip: SignFlipMap | None
    notes: tuple[str, ...]
    p_holm: float = math.nan

    @property
    def n(self) -> int:
        """Number of subjects."""
        return len(self.subjects)

    @property
    def significant(self) -> NDArray[np.bool_] | None:
        """Voxels whose p of the permutation of means, corrected over voxels, is at most .05; None without."""
        return None if self.mean_test is None else self.mean_test.p_fwe <= ALPHA


@dataclass(frozen=True)
class RefusedGroup:
    """Runs that differ in subject alone, over whose maps no test is possible.

    Attributes
    ----------
    reason : str
        With the runs and what to do.
    """

    params: Mapping[str, str]
    reason: str


def refuse_ungrouped(runs: Sequence[StoredRun]) -> None:
    """Raise DesignError unless there are finished searchlights that differ in subject alone."""
    chosen = [run for run in runs if run.is_searchlight]
    if not chosen:
        raise DesignError(
            f"no maps over subjects: none of the {len(runs)} selected runs is a searchlight; run "
            "python -m harness -m analysis=searchlight inference=permutation subject=1,2"
        )
    if collect_groups(chosen):
        return
    notes = describe_unfinished(chosen)
    finished = [run for run in chosen if run.status == "FINISHED"]
    subjects = list(dict.fromkeys(run.params.get("subject", "") for run in finished))
    if len(subjects) < 2:
        have = f"they are all of subject {subjects[0]}" if subjects else "none of them has finished"
        raise DesignError(
            " ".join(
                [
                    f"no maps over subjects: of the {len(chosen)} selected searchlights, {have}; two "
                    "subjects or more are needed.",
                    *notes,
                ]
            )
        )
    first = max(finished, key=lambda run: run.started)

    def differing(run: StoredRun) -> list[str]:
        return [name for name in SHARED_PARAMS if run.params.get(name, "") != first.params.get(name, "")]

    others = [run for run in finished if run.params.get("subject") != first.params.get("subject")]
    nearest = min(others, key=lambda run: len(differing(run)))
    described = "; ".join(
        f"{name} {first.params.get(name) or 'none'} and {nearest.params.get(name) or 'none'}"
        for name in differing(nearest)
    )
    raise DesignError(
        " ".join(
            [
                "no maps over subjects: no two searchlights differ in subject alone. The nearest are "
                f"{first.title} and {nearest.title}, which differ in {described}. --sweep ID selects the "
                "runs of one sweep.",
                *notes,
            ]
        )
    )


def map_groups(
    runs: Sequence[StoredRun], n_planned: int | None = None, n_draws: int = N_DRAWS, seed: int = 0
) -> tuple[list[GroupMaps], list[RefusedGroup]]:
    """Compute maps over the subjects of searchlights that differ in subject alone.

    Parameters
    ----------
    runs : sequence of StoredRun
        Of any configurations; decodings, and configurations with one subject, are left out. Of several runs
        of one subject and configuration, the newest finished one counts.
    n_planned : int, optional
        Subjects that a sweep has, if some of them may not have finished.
    n_draws, seed : int
        Combinations of relabellings, and patterns of signs, where there are more.

    Returns
    -------
    groups : list of GroupMaps
    refused : list of RefusedGroup
        Configurations whose maps cannot be compared, each with the reason.
    """
    found: list[GroupMaps] = []
    refused: list[RefusedGroup] = []
    for group in collect_groups([run for run in runs if run.is_searchlight], n_planned):
        try:
            found.append(_map_group(group, n_draws, seed))
        except HarnessError as error:
            refused.append(RefusedGroup(group.params, str(error)))
    return _correct(found), refused


def _correct(groups: list[GroupMaps]) -> list[GroupMaps]:
    """Add the smallest p of every map, corrected for the number of maps."""
    smallest = [math.nan if item.mean_test is None else float(item.mean_test.p_fwe.min()) for item in groups]
    if sum(not math.isnan(p) for p in smallest) < 2:
        return groups
    return [replace(item, p_holm=float(p)) for item, p in zip(groups, holm(smallest), strict=True)]


def _map_group(group: SubjectGroup, n_draws: int, seed: int) -> GroupMaps:
    """Compute the maps of one configuration.

    Raises
    ------
    DesignError
        If the maps cannot be compared.
    TrackingError
        If the files of a run are missing, edited or damaged.
    """
    subjects = [read_map(run) for run in group.runs]
    check_comparable(subjects)
    grid, columns = find_shared_voxels(subjects)
    notes = list(group.notes)
    if grid.n_partial:
        notes.append(
            f"{grid.n_partial} voxels are left out, because not all subjects have a sphere there; "
            f"{grid.mask.sum()} are left"
        )
    scores = np.array([item.scores[places] for item, places in zip(subjects, columns, strict=True)])
    mean_test = prevalence = None
    untested = [item.subject for item in subjects if item.kept is None]
    if untested:
        those = "the subjects have" if len(untested) == len(subjects) else _list_subjects(untested)
        notes.append(
            f"no permutation of means and no prevalence: {those} no relabelled maps (inference=permutation "
            "with analysis.keep_maps=100 or more)"
        )
    else:
        tables = [
            standardise_maps(item.kept[:, places])
            for item, places in zip(subjects, columns, strict=True)
            if item.kept is not None
        ]
        cluster_z = float(subjects[0].record["settings"]["cluster_z"])
        mean_test = permutation_of_mean_maps(tables, n_draws, seed, mask=grid.mask, cluster_z=cluster_z)
        prevalence = prevalence_arrays(tables, ALPHA, n_draws, seed, MAP_TOLERANCE)
        notes += _note_maps(subjects) + _note_prevalence(prevalence)
    flipped, why = _flip_signs(subjects, scores, grid, n_draws, seed)
    notes += [why] if why else []
    first = subjects[0].record
    described = {name: first[name] for name in ("contrast", "chance", "classes")}
    return GroupMaps(
        params=group.params,
        settings=subjects[0].settings | described,
        subjects=_tabulate(subjects),
        grid=grid,
        mean=scores.mean(axis=0),
        mean_test=mean_test,
        prevalence=prevalence,
        sign_flip=flipped,
        notes=tuple(notes),
    )


# Notes ------------------------------------------------------------------------------------------------------


def _list_subjects(names: Sequence[str]) -> str:
    return f"subject {names[0]} has" if len(names) == 1 else f"subjects {', '.join(names)} have"


def _note_maps(subjects: Sequence[StoredMap]) -> list[str]:
    """Note subjects with few relabelled maps, and with other numbers of them."""
    counts: dict[int, list[str]] = {}
    for item in subjects:
        counts.setdefault(0 if item.kept is None else len(item.kept), []).append(item.subject)
    notes = []
    few = {n: names for n, names in counts.items() if n < MIN_MAPS}
    if few:
        described = "; ".join(f"{_list_subjects(names)} {n}" for n, names in few.items())
        notes.append(
            f"{MIN_MAPS} relabelled maps per subject or more are wanted, the true one included: {described} "
            "(analysis.keep_maps, and the number of distinct relabellings)"
        )
    if len(counts) > 1:
        described = ", ".join(f"{n} in {', '.join(names)}" for n, names in sorted(counts.items()))
        notes.append(f"the subjects differ in their number of relabelled maps: {described}")
    return notes


def _note_prevalence(found: PrevalenceArrays) -> list[str]:
    if found.smallest_p_majority <= ALPHA:
        return []
    return [
        f"prevalence (majority null): cannot be significant with {found.n} subjects; the smallest possible "
        f"p, corrected over voxels, is {found.smallest_p_majority:.2g}"
    ]


def _flip_signs(
    subjects: Sequence[StoredMap], scores: Array, grid: GroupGrid, n_draws: int, seed: int
) -> tuple[SignFlipMap | None, str]:
    """Test scores minus .5 by changes of sign, or return None and why not."""
    why = refuse_few(len(subjects)) or refuse_half([item.run for item in subjects])
    if not why and subjects[0].settings["scorer"] == "accuracy":
        why = _refuse_unequal_classes(subjects)
    if why:
        return None, f"no test of the scores against {CHANCE:.1f} by changes of sign: {why}"
    enhance = partial(compute_tfce, neighbours=find_neighbours(grid.mask))
    return sign_flip_map(scores - CHANCE, enhance, n_draws, seed), ""


def _refuse_unequal_classes(subjects: Sequence[StoredMap]) -> str:
    for item in subjects:
        sizes = item.record.get("class_sizes")
        if not isinstance(sizes, dict):
            return f"run {item.run.title} does not record how many volumes each class has"
        if len(set(sizes.values())) > 1:
            return (
                f"subject {item.subject} has unequal numbers of volumes of the classes, and the larger class "
                "is predicted more often; analysis.scorer=balanced_accuracy has that chance level"
            )
    return ""


def _tabulate(subjects: Sequence[StoredMap]) -> pd.DataFrame:
    rows = [
        {
            "subject": item.subject,
            "run_id": item.run.run_id,
            "n_voxels": len(item.voxels),
            "n_maps": 0 if item.kept is None else len(item.kept),
            "max_score": float(np.nanmax(item.scores)),
            "smallest_p_fwe": item.run.metrics.get("smallest_p_fwe", math.nan),
        }
        for item in subjects
    ]
    return pd.DataFrame(rows)
