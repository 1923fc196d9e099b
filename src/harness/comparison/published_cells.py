"""Published values against those of stored runs, cell by cell."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.comparison.published import Item, PublishedValue, PublishedValues
from harness.comparison.run_quantities import QUANTITIES, Values, read_quantity
from harness.errors import TrackingError
from harness.tracking.choices import COMPARED_PARAMS
from harness.tracking.stored_run import StoredRun

MAX_CELLS = 20  # of one quantity, one per fold; longer lists are one cell, as coefficients are
# Parameters that change no value: where the files are, whether a test was added, and whose code computes.
WITHOUT_EFFECT = ("location", "inference", "engine")
# The same optimisation problem by another solver: the published digits are the measure of it.
SAME_PROBLEM = {"svc": "svc_liblinear", "logistic": "logistic_liblinear"}


class CellVerdict(StrEnum):
    """How a published value and the obtained one compare."""

    equal = "equal"
    differs = "differs"
    not_applicable = "not applicable"
    missing = "no run"
    absent = "no value"


@dataclass(frozen=True)
class Cell:
    """One value of a section, published and obtained.

    Attributes
    ----------
    fold : int or None
        From 1, for values per fold.
    published, obtained : tuple of float or str
        Empty if there is none.
    difference : float or None
        Obtained minus published; of several values, the one that is largest in magnitude.
    reason : str
        Why the comparison is not applicable, or what differs.
    decimals : int or None
        With which the value was published.
    """

    section: str
    quantity: str
    fold: int | None
    published: tuple[Item, ...]
    obtained: tuple[Item, ...]
    verdict: CellVerdict
    difference: float | None = None
    reason: str = ""
    decimals: int | None = None


def compare_published(
    published: PublishedValues,
    runs: Mapping[str, StoredRun | str],
    expected: Mapping[str, Mapping[str, str]],
) -> list[Cell]:
    """Compare published values with those of the runs of the sections.

    Parameters
    ----------
    runs : mapping of str to StoredRun or str
        The finished run of every section, or why there is none.
    expected : mapping of str to mapping of str to str
        The parameters of the run of every section, see `harness.tracking.choices.COMPARED_PARAMS`; those
        in the settings of `published` take their places.
    """
    cells: list[Cell] = []
    for section, values in published.sections.items():
        run = runs[section]
        settings = {**expected[section], **published.settings}
        reason = run if isinstance(run, str) else describe_difference(settings, run)
        for value in values:
            if isinstance(run, str):
                cells.append(_refuse(section, value, (), CellVerdict.missing, run))
            else:
                cells += _compare_value(section, value, run, reason)
    return cells


def describe_difference(expected: Mapping[str, str], run: StoredRun) -> str:
    """Return why a run cannot be compared with published values; empty if it can."""
    if run.params.get("dataset") == "simulated" != expected.get("dataset"):
        return "simulated data: nothing is published"
    found = []
    for name in COMPARED_PARAMS:
        wanted, given = expected.get(name), run.params.get(name, "")
        if name in WITHOUT_EFFECT or wanted is None or given == wanted:
            continue
        if SAME_PROBLEM.get(given, given) != SAME_PROBLEM.get(wanted, wanted):
            found.append(f"{name} is {given or 'not recorded'}, but the published values are of {wanted}")
    return "; ".join(found)


def _compare_value(section: str, value: PublishedValue, run: StoredRun, reason: str) -> Iterator[Cell]:
    """Yield one cell, or one per fold."""
    try:
        obtained = read_quantity(run, value.quantity)
    except TrackingError as error:
        missing = CellVerdict.not_applicable if reason or value.values is None else CellVerdict.absent
        yield _refuse(section, value, (), missing, reason or str(error))
        return
    if value.quantity == "coef_first" and value.values is not None:
        obtained = obtained[: len(value.values)]
    if value.values is None and not reason:
        reason = "no value is published"
    n = len(obtained)
    per_fold = value.quantity not in QUANTITIES and n <= MAX_CELLS
    per_fold = per_fold and (value.is_list or value.values is None)
    per_fold = per_fold and (value.values is None or reason != "" or len(value.values) == n)
    places = [[place] for place in range(n)] if per_fold else [list(range(n))]
    for chosen in places:
        fold = chosen[0] + 1 if per_fold and n > 1 else None
        yield _compare_places(section, value, obtained, chosen, fold, reason)


def _compare_places(
    section: str,
    value: PublishedValue,
    obtained: Values,
    places: Sequence[int],
    fold: int | None,
    reason: str,
) -> Cell:
    ours = tuple(obtained[place] for place in places)
    theirs = () if value.values is None else value.values
    if fold is not None:
        theirs = theirs[fold - 1 : fold]
    shown = (section, value.quantity, fold, theirs, ours)
    if reason:
        return Cell(*shown, CellVerdict.not_applicable, None, reason, value.decimals)
    if len(theirs) != len(ours):
        counts = f"{len(theirs)} values are published, and {len(ours)} obtained"
        return Cell(*shown, CellVerdict.differs, None, counts, value.decimals)
    wrong = [place for place in places if not value.matches(place, obtained[place])]
    difference = _find_largest(theirs, ours)
    if not wrong:
        return Cell(*shown, CellVerdict.equal, difference, "", value.decimals)
    several = f"{len(wrong)} of {len(places)} values differ" if len(places) > 1 else ""
    return Cell(*shown, CellVerdict.differs, difference, several, value.decimals)


def _find_largest(published: Sequence[Item], obtained: Sequence[Item]) -> float | None:
    """Return the difference that is largest in magnitude; None between texts."""
    found = [
        float(ours) - float(theirs)
        for theirs, ours in zip(published, obtained, strict=True)
        if not isinstance(ours, str) and not isinstance(theirs, str)
    ]
    return max(found, key=lambda value: (math.isnan(value), abs(value)), default=None)


def _refuse(
    section: str, value: PublishedValue, obtained: tuple[Item, ...], verdict: CellVerdict, reason: str
) -> Cell:
    published = value.values or ()
    return Cell(section, value.quantity, None, published, obtained, verdict, None, reason, value.decimals)
