"""Paired comparisons of stored runs: over the folds of one subject, or over subjects."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.comparison.comparability import (
    ComparedRun,
    RunGroup,
    describe_code,
    find_difference,
    find_leaks,
    group_runs,
    sort_values,
)
from harness.errors import DesignError, UsageError, format_unknown
from harness.inference.corrections import ALPHA, TOLERANCE
from harness.inference.paired_tests import corrected_t, holm, sign_flip, smallest_sign_flip_p
from harness.tracking.stored_run import DEFAULT_SCORES, StoredRun

MAX_VALUES = 30  # of the compared key, which make 435 pairs
COLUMNS = (
    *("first", "second", "n", "mean_first", "mean_second", "difference", "low", "high"),
    *("statistic", "effect", "p", "p_holm", "note"),
)
CORRECTED_T = "two-sided corrected resampled t-test over folds (Nadeau, Bengio 2003)"
SIGN_FLIP = "two-sided sign-flip test over subjects"


@dataclass(frozen=True, eq=False)
class PairedComparison:
    """All pairs of values of one key, compared by one score.

    Attributes
    ----------
    key : str
        The parameter in which the runs differ.
    score : str
        A column of ``folds.csv``, such as ``test_accuracy``.
    unit : {"fold", "subject"}
        What the differences are over.
    fixed : mapping of str to str
        The parameters that all runs share.
    test : str
        Name of the test; ``"none"`` where it is refused.
    table : DataFrame, one row per pair
        ``first, second``: values of the key; ``n``: units; ``mean_first, mean_second``; ``difference``: first
        minus second; ``low, high``: its 95 % interval; ``statistic``: t of folds; ``effect``: Hedges' g of
        the differences of subjects; ``p, p_holm``: two-sided, and corrected over the pairs of this table;
        ``note``. Undefined numbers are NaN. Without rows where the runs cannot be compared at all.
    units : DataFrame, one row per fold or subject
        ``unit`` and a column per value of the key: its score.
    notes : tuple of str
    refusal : str
        Why there is no test; empty where there is one.
    """

    key: str
    score: str
    unit: str
    fixed: Mapping[str, str]
    test: str
    table: pd.DataFrame
    units: pd.DataFrame
    notes: tuple[str, ...]
    refusal: str = ""

    @property
    def correction(self) -> str:
        """How the p-values are corrected for their number."""
        n = len(self.table)
        if n == 1:
            return "none, one pair"
        tested = int((self.table["n"] > 1).sum())
        return f"Holm over the {tested} pairs of this score"

    def to_dict(self) -> dict[str, Any]:
        """Return all that a table of this comparison states."""
        return vars(self) | {"baseline": "no difference", "correction": self.correction}


@dataclass(frozen=True, eq=False)
class _Pair:
    """One row of a table before Holm's correction."""

    n: int
    difference: float = float("nan")
    interval: tuple[float, float] | None = None
    statistic: float = float("nan")
    effect: float = float("nan")
    p: float = float("nan")
    note: str = ""


def compare_by(
    runs: Sequence[StoredRun], key: str, scores: Sequence[str] | None = None
) -> list[PairedComparison]:
    """Compare runs that differ in one key alone, for every score and every setting of the other parameters.

    Over subjects where two or more subjects have two values of the key, by the sign-flip test of their mean
    scores; else over the folds of every subject, by the corrected resampled t-test.

    Parameters
    ----------
    key : str
        A parameter, such as ``estimator``, or a single setting, such as ``estimator.tol``.
    scores : sequence of str, optional
        Test scores; by default accuracy and ROC AUC, where the runs have them.

    Returns
    -------
    comparisons : list of PairedComparison
        Where the audit calls a scheme a leak, differences without p-values.

    Raises
    ------
    UsageError
        For a key that does not exist or that no paired test can compare, and for selected scores.
    DesignError
        If no runs can be compared.
    """
    for score in scores or ():
        _check_score(score)
    found = group_runs(runs, key)
    comparisons = []
    for group in found.groups:
        subjects = group.split_subjects()
        if len(subjects) > 1:
            comparisons += _compare_subjects(group, subjects, key, scores, found.notes)
        else:
            for subject, members in subjects.items():
                fixed = dict(group.fixed) | ({"subject": subject} if subject else {})
                comparisons += _compare_folds(members, fixed, key, scores, found.notes)
    if not any(len(comparison.table) for comparison in comparisons):
        reasons = list(dict.fromkeys(comparison.refusal for comparison in comparisons))
        more = f" ({len(reasons) - 1} more reasons concern other runs)" if reasons[1:] else ""
        raise DesignError(f"by={key} is refused: {reasons[0]}{more}")
    return comparisons


def _check_score(score: str) -> None:
    if score.startswith("selected_"):
        raise UsageError(
            f"--score {score}: selected scores of some runs come from parameters that were chosen on the "
            "scored fold, those of others do not, and no test compares the two; choose a test score, such "
            "as test_accuracy"
        )


def _choose_scores(runs: Sequence[ComparedRun], scores: Sequence[str] | None) -> list[str]:
    """Return the requested scores, or the usual ones that all runs have."""
    common = [
        str(name)
        for name in runs[0].folds
        if str(name).startswith("test_") and all(name in run.folds for run in runs)
    ]
    if scores is None:
        chosen = [score for score in DEFAULT_SCORES if score in common] or common
        if not chosen:
            raise DesignError(f"{runs[0].label} and {runs[1].label} have no test score in common")
        return chosen
    for score in scores:
        lacking = [run.label for run in runs if score not in run.folds]
        if len(lacking) == len(runs):
            raise UsageError(format_unknown(f"--score {score}", score, common, "score"))
        if lacking:
            raise DesignError(
                f"{lacking[0]} has no {score}, which its scoring.report did not name; choose another score, "
                f"such as {(common or ['test_accuracy'])[0]}, or repeat it with the same scoring"
            )
    return list(scores)


def _compare_folds(
    runs: Sequence[ComparedRun],
    fixed: Mapping[str, str],
    key: str,
    scores: Sequence[str] | None,
    notes: tuple[str, ...],
) -> list[PairedComparison]:
    """Compare the runs of one subject fold by fold."""
    values = [run.value for run in runs]
    chosen = _choose_scores(runs, scores)
    refusal = find_difference(runs, key) or _refuse_values(values, key)
    if not refusal and len(runs[0].folds) == 1:
        refusal = (
            f"{_name_group(fixed)} has one fold, over which nothing varies; choose a scheme with several, "
            "such as cv=logo"
        )
    if refusal:
        return [
            PairedComparison(key, score, "fold", fixed, "none", _empty(), pd.DataFrame(), notes, refusal)
            for score in chosen
        ]
    leak = _refuse_leaks(runs)
    own = (*notes, *describe_code(runs))
    n_train, n_test = (runs[0].folds[name].to_numpy(dtype=np.float64) for name in ("n_train", "n_test"))
    comparisons = []
    for score in chosen:
        units = pd.DataFrame(
            {"unit": runs[0].folds["fold"], **{run.value: run.folds[score].astype(float) for run in runs}}
        )
        pairs = {
            (first, second): _test_folds(units[first], units[second], n_train, n_test, bool(leak))
            for first, second in combinations(values, 2)
        }
        test = "none" if leak else f"{CORRECTED_T}, n_test/n_train {n_test.sum() / n_train.sum():.3f}"
        table = _tabulate(_note_dummy(pairs, key), units)
        comparisons.append(PairedComparison(key, score, "fold", fixed, test, table, units, own, leak))
    return comparisons


def _compare_subjects(
    group: RunGroup,
    subjects: Mapping[str, Sequence[ComparedRun]],
    key: str,
    scores: Sequence[str] | None,
    notes: tuple[str, ...],
) -> list[PairedComparison]:
    """Compare the mean scores of subjects."""
    kept, reasons = {}, []
    for subject, members in subjects.items():
        if reason := find_difference(members, key):
            reasons.append(f"subject {subject} left out: {reason}")
        else:
            kept[subject] = members
    runs = [run for members in kept.values() for run in members]
    values = sort_values({run.value for run in runs})
    refusal = _refuse_values(values, key) or _refuse_same_images(kept)
    if len(kept) < 2:
        refusal = reasons[0].partition(": ")[2] if reasons else "fewer than two subjects remain"
    chosen = _choose_scores(runs or [run for members in subjects.values() for run in members], scores)
    if refusal:
        return [
            PairedComparison(
                key, score, "subject", group.fixed, "none", _empty(), pd.DataFrame(), notes, refusal
            )
            for score in chosen
        ]
    leak = _refuse_leaks(runs)
    own = (*notes, *reasons, *_note_incomplete(group, kept, values, key), *describe_code(runs))
    comparisons = []
    for score in chosen:
        means = {
            subject: {run.value: run.folds[score].mean() for run in members}
            for subject, members in kept.items()
        }
        units = pd.DataFrame(means).T.reindex(columns=values).rename_axis("unit").reset_index()
        both = list(combinations(values, 2))
        n_pairs = sum(len(units[list(pair)].dropna()) > 1 for pair in both)  # that can be tested
        pairs = {pair: _test_subjects(units[pair[0]], units[pair[1]], n_pairs, bool(leak)) for pair in both}
        table = _tabulate(_note_dummy(pairs, key), units)
        test = "none" if leak else SIGN_FLIP
        comparisons.append(
            PairedComparison(key, score, "subject", group.fixed, test, table, units, own, leak)
        )
    return comparisons


def _test_folds(
    first: pd.Series,
    second: pd.Series,
    n_train: NDArray[np.float64],
    n_test: NDArray[np.float64],
    refused: bool,
) -> _Pair:
    """Test one pair over folds; a fold in which a score is undefined does not count."""
    defined = (first.notna() & second.notna()).to_numpy()
    a, b = first.to_numpy()[defined], second.to_numpy()[defined]
    n = len(a)
    note = "" if defined.all() else f"undefined in {(~defined).sum()} of {len(defined)} folds"
    difference = float(np.mean(a - b)) if n else float("nan")
    if refused:
        return _Pair(n, difference, note=note)
    try:
        test = corrected_t(a, b, n_train[defined], n_test[defined])
    except DesignError as error:
        return _Pair(n, difference, note="; ".join(filter(None, [note, f"no test: {error}"])))
    return _Pair(n, test.difference, test.interval, test.t, p=test.p, note=note)


def _test_subjects(first: pd.Series, second: pd.Series, n_pairs: int, refused: bool) -> _Pair:
    """Test one pair over the subjects that have both values."""
    differences = (first - second).dropna().to_numpy()
    differences = np.where(np.abs(differences) <= TOLERANCE, 0.0, differences)  # means differ by rounding
    n = len(differences)
    if refused or n < 2:
        note = "" if refused else "fewer than two subjects have both"
        return _Pair(n, float(np.mean(differences)) if n else float("nan"), note=note)
    test = sign_flip(differences)
    effect = test.hedges_g
    if smallest_sign_flip_p(n, n_pairs) > ALPHA:
        needed = next(size for size in range(n + 1, n + 40) if smallest_sign_flip_p(size, n_pairs) <= ALPHA)
        note = f"cannot be significant with n = {n}; {needed} subjects or more can"
        return _Pair(n, test.difference, test.interval, effect=effect, note=note)
    return _Pair(n, test.difference, test.interval, effect=effect, p=test.p)


def _note_dummy(pairs: Mapping[tuple[str, str], _Pair], key: str) -> dict[tuple[str, str], _Pair]:
    """Add a note to pairs with a dummy, which ignores the volumes: the other is tested against chance."""
    noted = {}
    for values, pair in pairs.items():
        is_dummy = key == "estimator" and any(value.partition("[")[0] == "dummy" for value in values)
        note = "a dummy is chance: --chance has the test" if is_dummy else ""
        noted[values] = replace(pair, note="; ".join(filter(None, [pair.note, note])))
    return noted


def _tabulate(pairs: Mapping[tuple[str, str], _Pair], units: pd.DataFrame) -> pd.DataFrame:
    """Return the table of pairs with Holm's correction.

    A pair whose test cannot be significant, or is not defined, counts as one with p = 1; one with a single
    unit, which cannot be tested, does not count.
    """
    p = np.array([pair.p for pair in pairs.values()])
    counted = np.array([1.0 if pair.n > 1 else np.nan for pair in pairs.values()])
    corrected = np.where(np.isnan(p), np.nan, holm(np.where(np.isnan(p), counted, p)))
    rows = []
    for ((first, second), pair), p_holm in zip(pairs.items(), corrected, strict=True):
        both = units[units[first].notna() & units[second].notna()]
        low, high = pair.interval or (float("nan"), float("nan"))
        means = (both[first].mean(), both[second].mean())
        numbers = (pair.n, *means, pair.difference, low, high, pair.statistic, pair.effect, pair.p, p_holm)
        rows.append(dict(zip(COLUMNS, (first, second, *numbers, pair.note), strict=True)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _empty() -> pd.DataFrame:
    return pd.DataFrame(columns=list(COLUMNS))


def _refuse_values(values: Sequence[str], key: str) -> str:
    if len(values) <= MAX_VALUES:
        return ""
    return (
        f"{len(values)} values of {key} make {len(values) * (len(values) - 1) // 2} pairs; select at most "
        f"{MAX_VALUES} values with {key.partition('.')[0]}=VALUE,VALUE"
    )


def _refuse_leaks(runs: Sequence[ComparedRun]) -> str:
    leaks = find_leaks(runs)
    if not leaks:
        return ""
    return (
        f"no p-value: the audit calls the runs leaky, so that their scores say nothing about new volumes "
        f"({'; '.join(leaks[:2])})"
    )


def _refuse_same_images(subjects: Mapping[str, Sequence[ComparedRun]]) -> str:
    """Return a refusal if two subjects have the same images: they are one unit, not two."""
    seen: dict[str, str] = {}
    for subject, members in subjects.items():
        digest = members[0].run.digests.get("bold", "")
        if digest and digest in seen:
            return f"subjects {seen[digest]} and {subject} have the same images (SHA-256 {digest[:8]})"
        seen[digest] = subject
    return ""


def _note_incomplete(
    group: RunGroup, kept: Mapping[str, Sequence[ComparedRun]], values: Sequence[str], key: str
) -> Iterable[str]:
    """Return notes on subjects that lack a value."""
    lacking: dict[str, list[str]] = {}
    for subject in sort_values({run.subject for run in group.runs}):
        have = {run.value for run in group.runs if run.subject == subject}
        missing = [value for value in values if value not in have]
        if missing and (subject in kept or len(have) < 2):
            lacking.setdefault(", ".join(missing), []).append(subject)
    for missing_values, subjects in lacking.items():
        yield (f"without {key}={missing_values}, and left out of these pairs: subject {', '.join(subjects)}")


def _name_group(fixed: Mapping[str, str]) -> str:
    return " ".join(f"{name}={fixed[name]}" for name in ("subject", "contrast", "cv") if name in fixed)
