"""Groups of subjects: mean scores over subjects with tests, from stored runs that differ in subject alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from harness.checks.findings import Verdict
from harness.comparison.chance_level import CHANCE, compare_with_half, refuse_half
from harness.errors import HarnessError, pluralise
from harness.inference.corrections import ALPHA, TOLERANCE, drop_observed
from harness.inference.group_tests import MeanTest, Prevalence, permutation_of_means, prevalence
from harness.inference.paired_tests import MAX_ENUMERATED, N_DRAWS, SignFlip, holm
from harness.tracking.queries import COMPARED_PARAMS
from harness.tracking.stored_run import DEFAULT_SCORES, NULL_TABLE, StoredRun, choose_newest
from harness.tracking.tags import INFERENCE_TAG, PRIMARY_TAG

NOT_SHARED = ("subject", "inference")  # the units; what does not change a score
SHARED_PARAMS = tuple(name for name in COMPARED_PARAMS if name not in NOT_SHARED)
ORDER_RULE = "class_order"
# The tests of a summary whose p-values Holm's procedure corrects, each for itself.
CORRECTED = ("means", "prevalence_global", "prevalence_majority", "sign_flip")


@dataclass(frozen=True, eq=False)
class GroupSummary:
    """One score over the subjects of one configuration.

    Attributes
    ----------
    params : mapping of str to str
        The choices that all runs share.
    subjects : DataFrame, one row per subject
        ``subject, run_id, score, p``: the mean over folds, and the p-value of the subject's own permutation
        test (NaN where there is none).
    mean, sd : float
        Over subjects (ddof=1).
    mean_test : MeanTest or None
        Of the global null hypothesis; None where a subject has no complete permutation test.
    prevalence : Prevalence or None
        None for the same reason.
    sign_flip : SignFlip or None
        Of the scores minus .5, where .5 is the chance level: test scores of two classes under ``logo``.
    p_holm : mapping of str to float
        P-values corrected by Holm's procedure over the groups that have the test, by `CORRECTED`; without
        the tests that one group alone has.
    n_tests : mapping of str to int
        How many groups have each test of this score.
    smallest_p_holm : mapping of str to float
        The smallest p-values that the subjects and relabellings of all groups allow, after the correction.
    is_primary : bool
        Whether it is the runs' primary score; p-values of the others are not corrected for several scores.
    """

    params: Mapping[str, str]
    score: str
    subjects: pd.DataFrame
    mean: float
    sd: float
    n: int
    mean_test: MeanTest | None
    prevalence: Prevalence | None
    sign_flip: SignFlip | None
    notes: tuple[str, ...]
    p_holm: Mapping[str, float] = field(default_factory=dict)
    n_tests: Mapping[str, int] = field(default_factory=dict)
    smallest_p_holm: Mapping[str, float] = field(default_factory=dict)
    is_primary: bool = True

    @property
    def null_mean(self) -> float:
        """Mean of the group's null distribution, with which the mean is compared; NaN where there is none."""
        if self.mean_test is None:
            return math.nan
        return float(np.nanmean(drop_observed(self.mean_test.null, self.mean_test.is_exact)))

    @property
    def p_values(self) -> dict[str, float]:
        """P-values by test (`CORRECTED`), before the correction, of those tests that were computed."""
        values = {}
        if self.mean_test is not None:
            values["means"] = self.mean_test.p
        if self.prevalence is not None:
            values["prevalence_global"] = self.prevalence.p_global
            values["prevalence_majority"] = self.prevalence.p_majority
        if self.sign_flip is not None:
            values["sign_flip"] = self.sign_flip.p_greater
        return values

    @property
    def smallest_p(self) -> dict[str, float]:
        """The smallest p-values that these subjects and relabellings allow, by test."""
        values = {}
        if self.mean_test is not None:
            values["means"] = 1 / (self.mean_test.n_draws + 1)
        if self.prevalence is not None:
            values["prevalence_global"] = self.prevalence.smallest_p_global
            values["prevalence_majority"] = self.prevalence.smallest_p_majority
        if self.sign_flip is not None:
            values["sign_flip"] = 1 / 2**self.n if self.n <= MAX_ENUMERATED else 1 / (N_DRAWS + 1)
        return values

    def can_be_significant(self, test: str) -> bool:
        """Return whether there is such a test whose smallest p-value after the correction is at most .05."""
        smallest = self.smallest_p_holm.get(test, self.smallest_p.get(test))
        return smallest is not None and smallest <= ALPHA

    def corrected_p(self, test: str) -> float:
        """Return a p-value after the correction; NaN without the test, or where it cannot be significant.

        A p-value that could not have been small would be read as evidence for the null hypothesis.
        """
        if not self.can_be_significant(test):
            return math.nan
        return self.p_holm.get(test, self.p_values[test])


@dataclass(frozen=True, eq=False)
class SubjectGroup:
    """The newest finished run of every subject of one configuration, and notes on them."""

    params: Mapping[str, str]
    runs: tuple[StoredRun, ...]
    notes: tuple[str, ...]


def summarise_groups(
    runs: Sequence[StoredRun], scores: Sequence[str] | None = None, n_planned: int | None = None
) -> list[GroupSummary]:
    """Summarise every score over the subjects of runs that differ in subject alone.

    Parameters
    ----------
    runs : sequence of StoredRun
        Of any configurations; of several runs of one subject and configuration, the newest finished one
        counts. Searchlights, and configurations with one subject, are left out.
    scores : sequence of str, optional
        For example ``("test_accuracy",)``; by default test accuracy, test ROC AUC and the primary score.
    n_planned : int, optional
        Subjects that a sweep has, if some of them may not have finished.

    Returns
    -------
    groups : list of GroupSummary
        One per configuration and score, the scores of a configuration together. Holm's correction is over the
        configurations, for every score by itself.
    """
    found = []
    for group in collect_groups([run for run in runs if not run.is_searchlight], n_planned):
        chosen = scores or tuple(dict.fromkeys([*DEFAULT_SCORES, _find_primary(group.runs[0])]))
        refusal = refuse_half(group.runs)
        found += [
            _summarise(group, score, refusal)
            for score in chosen
            if any(f"{score}_mean" in run.metrics for run in group.runs)
        ]
    return _correct(found)


def collect_groups(runs: Sequence[StoredRun], n_planned: int | None = None) -> list[SubjectGroup]:
    """Return the configurations of runs that have two subjects or more; see `summarise_groups`."""
    chosen = {run.run_id for run in choose_newest([run for run in runs if run.status == "FINISHED"])}
    by_params: dict[tuple[str, ...], dict[str, list[StoredRun]]] = {}
    for run in runs:
        key = tuple(run.params.get(name, "") for name in SHARED_PARAMS)
        by_params.setdefault(key, {}).setdefault(run.params.get("subject", ""), []).append(run)
    groups = []
    for key, by_subject in by_params.items():
        newest, notes = {}, []
        for subject in sorted(by_subject, key=_sort_key):
            statuses = [run.status for run in by_subject[subject]]
            n_finished = statuses.count("FINISHED")
            if not n_finished:
                described = " and ".join(sorted(set(statuses)))
                notes.append(f"subject {subject} is left out: its run is {described}")
                continue
            newest[subject] = next(run for run in by_subject[subject] if run.run_id in chosen)
            if n_finished > 1:
                notes.append(
                    f"subject {subject} has {n_finished} runs of this configuration; the newest counts"
                )
        if len(newest) < 2:
            continue
        if n_planned is not None and len(newest) < n_planned:
            notes.insert(0, f"{len(newest)} of the {n_planned} subjects of the sweep have finished")
        params = {name: value for name, value in zip(SHARED_PARAMS, key, strict=True) if value}
        tests = {run.params.get("inference", "") for run in newest.values()}
        if len(tests) == 1 and (test := tests.pop()):
            params["inference"] = test
        groups.append(SubjectGroup(params, tuple(newest.values()), (*notes, *_note_differences(newest))))
    return groups


def _sort_key(subject: str) -> tuple[int, str]:
    """Order numbers by value, and before labels."""
    return (int(subject), "") if subject.isascii() and subject.isdecimal() else (2**31, subject)


def _find_primary(run: StoredRun) -> str:
    """Return the score whose p-value needs no correction for several scores."""
    if PRIMARY_TAG in run.tags:
        return run.tags[PRIMARY_TAG]
    # As `harness.inference.permutation` chooses it: the score by which parameters are selected.
    selected = run.params.get("scoring", "").partition("[")[0]
    return f"test_{selected}" if f"test_{selected}_mean" in run.metrics else DEFAULT_SCORES[0]


def _note_differences(runs: Mapping[str, StoredRun]) -> list[str]:
    """Note what makes subjects less comparable: the lowest score, a minimum, is that of the noisiest."""
    notes = []
    for name, what in (("n_folds", "folds"), ("n_samples", "volumes")):
        counts: dict[str, list[str]] = {}
        for subject, run in runs.items():
            counts.setdefault(run.params.get(name, "?"), []).append(subject)
        if len(counts) > 1:
            described = ", ".join(
                f"{number} {what} in {pluralise(len(of_number), 'subject')} {', '.join(of_number)}"
                for number, of_number in counts.items()
            )
            notes.append(
                f"the subjects differ in their number of {what} ({described}); the minimum over subjects, on "
                "which prevalence is based, is set by the subject with the noisiest score"
            )
            break
    return [*notes, *_note_order(runs)]


def _note_order(runs: Mapping[str, StoredRun]) -> list[str]:
    """Note an unbalanced order of the classes, which more subjects do not average out."""
    with_order = []
    for subject, run in runs.items():
        try:
            findings = run.read_findings()
        except HarnessError as error:
            return [f"the audit is not known: {error}"]
        is_unbalanced = any(item.rule == ORDER_RULE and item.verdict != Verdict.ok for item in findings)
        if is_unbalanced and "relabel=order_preserving" not in run.params.get("inference", ""):
            with_order.append(subject)
    if not with_order:
        return []
    return [
        f"the order of the classes was not balanced in {len(with_order)} of {len(runs)} subjects (rule "
        f"{ORDER_RULE}): an effect of the order that subjects share is not averaged out over them; "
        "inference.relabel=order_preserving allows for it"
    ]


# One score of one group -------------------------------------------------------------------------------------


def _summarise(group: SubjectGroup, score: str, refusal: str) -> GroupSummary:
    rows = [
        {
            "subject": run.params.get("subject", ""),
            "run_id": run.run_id,
            "score": run.metrics.get(f"{score}_mean", math.nan),
            "p": run.metrics.get(f"p_value/{score}", math.nan),
        }
        for run in group.runs
    ]
    subjects = pd.DataFrame(rows)
    undefined = subjects["score"].isna()
    notes = list(group.notes)
    if undefined.any():
        names = ", ".join(subjects["subject"][undefined])
        notes.append(f"{_title(score)} is not defined in subject {names}, which does not count for it")
    defined = [run for run, is_missing in zip(group.runs, undefined, strict=True) if not is_missing]
    subjects = subjects[~undefined].reset_index(drop=True)
    values = subjects["score"].to_numpy(dtype=float)
    mean_test = found_prevalence = None
    nulls, why = _read_nulls(defined, score, values)
    if nulls is not None:
        mean_test, found_prevalence = permutation_of_means(nulls), prevalence(nulls)
    notes += [why] if why else []
    flipped, why = compare_with_half(defined, score, values, refusal)
    notes += [why] if why else []
    return GroupSummary(
        params=group.params,
        score=score,
        subjects=subjects,
        mean=float(values.mean()),
        sd=_spread(values),
        n=len(values),
        mean_test=mean_test,
        prevalence=found_prevalence,
        sign_flip=flipped,
        notes=tuple(notes),
        is_primary=score == _find_primary(group.runs[0]),
    )


def _read_nulls(
    runs: Sequence[StoredRun], score: str, observed: np.ndarray
) -> tuple[list[np.ndarray] | None, str]:
    """Return the null distribution of every subject, or None and why there is none."""
    without, sequential = [], []
    for run in runs:
        if INFERENCE_TAG not in run.tags:
            without.append(run.params.get("subject", ""))
        elif not run.has_complete_test:
            sequential.append(run.params.get("subject", ""))
    if without or sequential:
        reasons = []
        if without:
            reasons.append(
                f"{_list_subjects(without, len(runs))} no permutation test (inference=permutation)"
            )
        if sequential:
            reasons.append(
                f"{_list_subjects(sequential, len(runs))} a sequential test, which has no null mean "
                "(inference.stop_early=true; repeat with inference.stop_early=false)"
            )
        return None, f"no permutation of means and no prevalence: {' and '.join(reasons)}"
    nulls = []
    for run, value in zip(runs, observed, strict=True):
        try:
            table = run.read_null()
        except HarnessError as error:
            return None, f"no permutation of means and no prevalence: {error}"
        if score not in table or not abs(table[score].iloc[0] - value) < 1e-9:
            return None, (
                f"no permutation of means and no prevalence: {NULL_TABLE} of run {run.title} does not begin "
                f"with the run's {score}"
            )
        nulls.append(table[score].to_numpy(dtype=float))
    return nulls, ""


def _list_subjects(names: Sequence[str], n: int) -> str:
    if len(names) == n:
        return "the subjects have"
    return f"subject {names[0]} has" if len(names) == 1 else f"subjects {', '.join(names)} have"


def _correct(groups: Sequence[GroupSummary]) -> list[GroupSummary]:
    """Add p-values corrected over the groups of each score, and note tests that cannot be significant."""
    by_score: dict[str, list[GroupSummary]] = {}
    for group in groups:
        by_score.setdefault(group.score, []).append(group)
    corrected = {}
    for together in by_score.values():
        p, n_tests = _correct_tests([group.p_values for group in together])
        # The smallest p-value that Holm's procedure can return for a group is that of all smallest ones.
        smallest, _ = _correct_tests([group.smallest_p for group in together])
        for group, own, least in zip(together, p, smallest, strict=True):
            found = replace(
                group,
                p_holm={test: value for test, value in own.items() if n_tests[test] > 1},
                n_tests={test: n_tests[test] for test in own},
                smallest_p_holm=least,
            )
            corrected[id(group)] = replace(found, notes=(*found.notes, *_note_limits(found)))
    return [corrected[id(group)] for group in groups]


def _correct_tests(groups: Sequence[Mapping[str, float]]) -> tuple[list[dict[str, float]], dict[str, int]]:
    """Return the p-values of groups, corrected over those that have each test, and how many do."""
    corrected: list[dict[str, float]] = [{} for _ in groups]
    n_tests = {}
    for test in CORRECTED:
        have = [place for place, p_values in enumerate(groups) if test in p_values]
        n_tests[test] = len(have)
        p = holm(np.array([groups[place][test] for place in have]))
        for place, value in zip(have, p, strict=True):
            corrected[place][test] = float(value)
    return corrected, n_tests


def _note_limits(group: GroupSummary) -> list[str]:
    names = {
        "means": "permutation of means",
        "prevalence_global": "prevalence (global null)",
        "prevalence_majority": "prevalence (majority null)",
        "sign_flip": f"sign-flip test against {CHANCE:.1f}",
    }
    notes = []
    for test, smallest in group.smallest_p_holm.items():
        if not group.can_be_significant(test):
            n = group.n_tests[test]
            correction = f" after Holm's correction for {n} groups" if n > 1 else ""
            notes.append(
                f"{names[test]}: cannot be significant with {group.n} subjects; the smallest possible p is "
                f"{smallest:.2g}{correction}"
            )
    return notes


def _title(score: str) -> str:
    return score.replace("_", " ")


def _spread(values: np.ndarray) -> float:
    """Return the SD over subjects; 0 where equal means differ by rounding, NaN for a single subject."""
    if len(values) < 2:
        return math.nan
    return 0.0 if np.ptp(values) <= TOLERANCE else float(values.std(ddof=1))
