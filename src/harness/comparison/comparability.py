"""Which stored runs may enter one test: those that differ in one key alone and held out the same volumes."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from harness.checks.findings import Finding
from harness.comparison.choices import NOT_COMPARED
from harness.errors import DesignError, TrackingError, UsageError, count, format_unknown
from harness.tracking.provenance import COMPUTING_PACKAGES
from harness.tracking.queries import COMPARED_PARAMS
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import CODE_TAG, COMMIT_TAG

OWN_FILES = {"roi": ("mask",), "signal": ("confounds",)}  # input files that differ with a compared key
NOT_IN_SCORES = ("subject", "inference")  # the units of a test; what does not change a score
NAMED = 3  # runs in a message


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A stored run with what a paired test needs.

    Attributes
    ----------
    value : str
        Of the compared key.
    folds : DataFrame, one row per fold
        The run's ``folds.csv``, in the order of the folds.
    held_out : frozenset of (int, str, int)
        Fold, scanner run and volume of every prediction.
    leaks : tuple of Finding
        Findings of its audit that are leaks.
    """

    run: StoredRun
    value: str
    folds: pd.DataFrame
    held_out: frozenset[tuple[int, str, int]]
    leaks: tuple[Finding, ...] = ()

    @property
    def subject(self) -> str:
        """The subject of the run."""
        return self.run.params.get("subject", "")

    @property
    def label(self) -> str:
        """The compared value and the beginning of the identifier, as in ``svc (01234567)``."""
        return f"{self.value} ({self.run.run_id[:8]})"


@dataclass(frozen=True, eq=False)
class RunGroup:
    """Runs that differ in the compared key and the subject alone; one per subject and value.

    Attributes
    ----------
    fixed : mapping of str to str
        The parameters that all of them share.
    """

    fixed: Mapping[str, str]
    runs: Sequence[ComparedRun]

    def split_subjects(self) -> dict[str, list[ComparedRun]]:
        """Return the runs of every subject that has at least two values, in the order of `sort_values`."""
        subjects: dict[str, list[ComparedRun]] = {}
        for run in self.runs:
            subjects.setdefault(run.subject, []).append(run)
        ordered = sort_values(subjects)
        order = sort_values({run.value for run in self.runs})
        return {
            name: sorted(subjects[name], key=lambda run: order.index(run.value))
            for name in ordered
            if len(subjects[name]) > 1
        }


@dataclass(frozen=True, eq=False)
class RunGroups:
    """The groups of a list of runs, and which runs were left out."""

    groups: Sequence[RunGroup]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Settings:
    """What identifies a run in a comparison: the compared value, and all that must be the same."""

    value: str
    fixed: Mapping[str, str]
    rest: str = field(default="")  # the other settings of the group that the compared key belongs to

    @property
    def group(self) -> tuple[object, ...]:
        return (*self.fixed.items(), self.rest)


def sort_values(values: Iterable[str]) -> list[str]:
    """Return values in numerical order where all are numbers, else in alphabetical order."""
    found = list(values)
    try:
        return sorted(found, key=lambda value: (float(value), value))
    except ValueError:
        return sorted(found)


def check_key(key: str) -> None:
    """Raise UsageError for a key that no paired test can compare, or that does not exist."""
    group, _, rest = key.partition(".")
    if group in NOT_COMPARED:
        raise UsageError(f"by={key} is refused: {NOT_COMPARED[group]}")
    if not rest and group not in COMPARED_PARAMS:
        allowed = [name for name in COMPARED_PARAMS if name not in NOT_COMPARED]
        message = format_unknown(f"by={key}", key, allowed, "parameter")
        raise UsageError(f"{message} A single setting has its group in front, such as by=estimator.grid.C")


def group_runs(runs: Sequence[StoredRun], key: str) -> RunGroups:
    """Return the runs in groups that differ in `key` and the subject alone, with their folds.

    Runs that are not FINISHED, that have no value of the key or no readable folds, and those that are older
    than the newest readable one of the same configuration are left out, with a note.

    Raises
    ------
    UsageError
        If the key is unknown or cannot be compared.
    DesignError
        If no two runs differ in the key.
    """
    check_key(key)
    runs, notes = leave_out_searchlights(runs)
    notes += describe_unfinished(runs)
    finished = [run for run in runs if run.status == "FINISHED"]
    settings, unreadable = _read_settings(finished, key)
    notes += unreadable
    # Runs of the same configuration and subject, the newest first.
    places: dict[tuple[object, ...], list[StoredRun]] = {}
    for run in sorted(finished, key=lambda run: run.started):
        if found := settings.get(run.run_id):
            place = (found.group, run.params.get("subject", ""), found.value)
            places.setdefault(place, []).insert(0, run)
    groups: dict[object, list[list[StoredRun]]] = {}
    for (group, _, _), repeats in places.items():
        groups.setdefault(group, []).append(repeats)
    found_groups, repeated = [], []
    for members in groups.values():
        if len({settings[repeats[0].run_id].value for repeats in members}) < 2:
            continue
        read = []
        for repeats in members:
            chosen, lost = _read_newest(repeats, settings)
            notes += lost
            if chosen is not None:
                read.append(chosen)
                older = repeats[len(lost) + 1 :]
                repeated += [f"{chosen.run.run_id[:8]} instead of {other.run_id[:8]}" for other in older]
        if len({run.value for run in read}) > 1:
            found_groups.append(RunGroup(settings[members[0][0].run_id].fixed, read))
    if repeated:
        notes.append(f"{count(len(repeated), 'run')} repeated: the newest counts ({_name(repeated)})")
    if not any(group.split_subjects() for group in found_groups):
        newest = [repeats[0] for repeats in places.values()]
        raise DesignError(" ".join([_explain_no_pair(newest, settings, key), *notes]))
    return RunGroups(found_groups, tuple(notes))


def leave_out_searchlights(runs: Sequence[StoredRun]) -> tuple[list[StoredRun], list[str]]:
    """Return the decodings among runs, and a note on the searchlights.

    Raises
    ------
    DesignError
        If all of them are searchlights.
    """
    decodings = [run for run in runs if not run.is_searchlight]
    n = len(runs) - len(decodings)
    if n and not decodings:
        raise DesignError(
            f"{count(n, 'run')} selected, and only searchlights, whose maps have no "
            "score per fold or p-value that this table could compare: python -m harness compare lists "
            "them, explain RUN RUN compares two maps, and a sweep over subjects tests them over subjects"
        )
    return decodings, [f"{count(n, 'searchlight')} left out: a map has no single score"] if n else []


def describe_unfinished(runs: Iterable[StoredRun]) -> list[str]:
    """Return a note on the runs that are not FINISHED, if there are any."""
    counts = Counter(run.status for run in runs if run.status != "FINISHED")
    total = sum(counts.values())
    words = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    return [f"{count(total, 'run')} left out: {words}"] if total else []


def find_difference(runs: Sequence[ComparedRun], key: str) -> str | None:
    """Return why runs of one subject cannot enter one paired test; None if they can.

    Parameters
    ----------
    key : str
        The compared key: masks may differ by region, and confounds by signal.
    """
    own = OWN_FILES.get(key.partition(".")[0], ())
    first = runs[0]
    for other in runs[1:]:
        pair = f"{first.label} and {other.label}"
        for role in sorted(set(first.run.digests) | set(other.run.digests)):
            digests = [run.run.digests.get(role, "none")[:8] for run in (first, other)]
            if role not in own and digests[0] != digests[1]:
                shown = " and ".join(digests)
                return f"{pair} used different data: SHA-256 of {role} {shown}; repeat the older one"
        if reason := _compare_held_out(first, other):
            return f"{pair} did not hold out the same volumes: {reason}; select runs that did"
    return None


def find_leaks(runs: Iterable[ComparedRun]) -> list[str]:
    """Return the leaks that the audit found in runs, each once, with a run that has it."""
    leaks: dict[str, str] = {}
    for run in runs:
        for finding in run.leaks:
            leaks.setdefault(finding.rule, f"{finding.rule} of {run.label}: {finding.fact}")
    return list(leaks.values())


def describe_code(runs: Sequence[ComparedRun]) -> list[str]:
    """Return notes on versions of the code and of packages that differ and can change a score."""
    notes = []
    digests = [run.run.tags.get(CODE_TAG) for run in runs]
    same_code = None not in digests and len(set(digests)) == 1  # whatever its version and commit
    names = ("python", *(() if same_code else ("harness",)), *COMPUTING_PACKAGES)
    found = {name: [run.run.versions.get(name, "unknown") for run in runs] for name in names}
    if not same_code:
        found["commit"] = [run.run.tags.get(COMMIT_TAG, "unknown")[:12] for run in runs]
    for name, versions in found.items():
        if len(set(versions)) > 1:
            users = {version: runs[versions.index(version)].label for version in sorted(set(versions))}
            shown = "; ".join(f"{version}: {label}" for version, label in users.items())
            notes.append(f"runs of different versions, which can change a score: {name} {shown}")
    if not all(run.run.has_file("audit.json") for run in runs):
        notes.append("not every run was audited: leaks of its scheme are unknown")
    return notes


def _read_settings(runs: Sequence[StoredRun], key: str) -> tuple[dict[str, _Settings], list[str]]:
    """Return the settings of runs by their identifiers, and notes on those without a value of the key."""
    if "." not in key:
        found = {
            run.run_id: _Settings(run.params[key], _fixed_params(run, key))
            for run in runs
            if run.params.get(key)
        }
        return found, _note_missing(len(runs) - len(found), key)
    group, *path = key.split(".")
    found, notes, known = {}, [], set()
    for run in runs:
        try:
            settings = run.read_config().get(group)
        except TrackingError as error:
            notes.append(f"left out: {error}")
            continue
        known |= {f"{group}.{name}" for name in _list_keys(settings)}
        value, rest = _take(settings, path)
        if value is not None:
            fixed = _fixed_params(run, group) | {group: run.params.get(group, "").partition("[")[0]}
            found[run.run_id] = _Settings(value, fixed, rest)
    if not found and runs:
        message = format_unknown(f"by={key}", key, sorted(known), "key")
        raise UsageError(" ".join([message if known else f"by={key} is unknown to these runs.", *notes]))
    return found, notes + _note_missing(len(runs) - len(found) - len(notes), key)


def _fixed_params(run: StoredRun, key: str) -> dict[str, str]:
    """Return the parameters that have to be the same in runs that are compared by a key."""
    left_out = (key, *NOT_IN_SCORES)
    return {name: run.params[name] for name in COMPARED_PARAMS if name not in left_out and name in run.params}


def _note_missing(number: int, key: str) -> list[str]:
    return [f"{count(number, 'run')} left out: without {key}"] if number else []


def _list_keys(settings: Any, prefix: str = "") -> list[str]:
    """Return the dotted names of all values below a group."""
    if not isinstance(settings, Mapping):
        return []
    names = []
    for name, value in settings.items():
        below = _list_keys(value, f"{prefix}{name}.")
        names += below or [f"{prefix}{name}"]
    return names


def _take(settings: Any, path: Sequence[str]) -> tuple[str | None, str]:
    """Return the value at a path, as text, and all other settings; None if there is no such value."""
    if not isinstance(settings, Mapping) or path[0] not in settings:
        return None, ""
    others = {name: value for name, value in settings.items() if name != path[0]}
    if len(path) == 1:
        value = settings[path[0]]
        text = value if isinstance(value, str) else json.dumps(value)
        return text, json.dumps(others, sort_keys=True)
    value, rest = _take(settings[path[0]], path[1:])
    return value, json.dumps([others, rest], sort_keys=True)


def _read_newest(
    runs: Sequence[StoredRun], settings: Mapping[str, _Settings]
) -> tuple[ComparedRun | None, list[str]]:
    """Return the first of some runs whose files can be read, and notes on those before it."""
    notes: list[str] = []
    for run in runs:
        try:
            files = run.read_folds(), _read_held_out(run), tuple(run.read_leaks())
            return ComparedRun(run, settings[run.run_id].value, *files), notes
        except TrackingError as error:
            notes.append(f"left out: {error}")
    return None, notes


def _read_held_out(run: StoredRun) -> frozenset[tuple[int, str, int]]:
    predictions = run.read_columns("predictions.csv", ("fold", "run", "volume"))
    folds, runs, volumes = (predictions[column].tolist() for column in ("fold", "run", "volume"))
    return frozenset(zip(folds, map(str, runs), volumes, strict=True))


def _compare_held_out(first: ComparedRun, other: ComparedRun) -> str | None:
    """Return how folds or volumes of two runs differ; None if they are the same."""
    volumes = [{(run, volume) for _, run, volume in item.held_out} for item in (first, other)]
    if volumes[0] != volumes[1]:
        sizes = " and ".join(str(len(found)) for found in volumes)
        scanner_run, volume = min(volumes[0] ^ volumes[1])
        return f"{sizes} volumes; volume {volume} of scanner run {scanner_run} is held out by one alone"
    if len(first.folds) != len(other.folds):
        return f"{len(first.folds)} and {len(other.folds)} folds"
    if first.held_out != other.held_out:
        fold, scanner_run, volume = min(first.held_out - other.held_out)
        return f"volume {volume} of scanner run {scanner_run} is in fold {fold} of the first alone"
    for column in ("fold", "n_train", "n_test"):
        differ = (first.folds[column] != other.folds[column]).to_numpy().nonzero()[0]
        if len(differ):
            values = " and ".join(str(item.folds[column].iloc[differ[0]]) for item in (first, other))
            return f"{column} of fold {first.folds['fold'].iloc[differ[0]]} is {values}"
    return None


def _explain_no_pair(runs: Sequence[StoredRun], settings: Mapping[str, _Settings], key: str) -> str:
    """Return why no two runs can be compared: which runs are the most alike, and in what else they differ."""
    values = sort_values({settings[run.run_id].value for run in runs})
    if len(values) < 2:
        have = f"all of them have {key}={values[0]}" if values else "none of them can be read"
        return f"by={key} compares runs with at least two values of {key}; {have}. Select other runs."
    newest = max(runs, key=lambda run: run.started)
    own = _all_settings(newest, settings)

    def differing(run: StoredRun) -> list[str]:
        other = _all_settings(run, settings)
        return [name for name in {**own, **other} if own.get(name) != other.get(name)]

    others = [run for run in runs if settings[run.run_id].value != settings[newest.run_id].value]
    nearest = min(others, key=lambda run: len(differing(run)))
    other = _all_settings(nearest, settings)
    also = "; ".join(
        f"{name} ({own.get(name, 'none')} and {other.get(name, 'none')})" for name in differing(nearest)
    )
    pair = " and ".join(f"{settings[run.run_id].value} ({run.run_id[:8]})" for run in (newest, nearest))
    reason = f"differ in {also}, too" if also else "cannot be read"
    return f"by={key}: no two runs of a subject differ in {key} alone. The most alike, {pair}, {reason}."


def _all_settings(run: StoredRun, settings: Mapping[str, _Settings]) -> dict[str, str]:
    found = settings[run.run_id]
    rest = {"other settings of the group": found.rest} if found.rest else {}
    return dict(found.fixed) | {"subject": run.params.get("subject", "")} | rest


def _name(texts: Sequence[str]) -> str:
    """Return the first of some texts, and how many more there are."""
    more = len(texts) - NAMED
    return ", ".join(texts[:NAMED]) + (f", and {more} more" if more > 0 else "")
