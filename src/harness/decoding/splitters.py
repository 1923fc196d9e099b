"""Cross-validation schemes, and the folds that they make of samples."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.model_selection import BaseCrossValidator

from harness.errors import DesignError, UsageError
from harness.samples.samples import Samples

MAX_SKIPPED_SHOWN = 3  # folds that the warning about skipped folds describes
MAX_FOLDS = 10_000  # leaving 5 of 200 volumes out would make 2.5e9


class Incomplete(StrEnum):
    """How a fold that cannot be fitted or scored, because it lacks a class, is treated."""

    REFUSE = "refuse"
    SKIP = "skip"


@dataclass(frozen=True)
class Scheme:
    """A named cross-validation scheme.

    Attributes
    ----------
    name : str
        What the user types after ``cv=``.
    splitter : BaseCrossValidator
        Splits by samples, classes and runs.
    incomplete : {"refuse", "skip"}
        What is done with folds whose training set lacks a class, or whose held-out set has only one.
    """

    name: str
    splitter: BaseCrossValidator
    incomplete: str = Incomplete.REFUSE.value

    def __post_init__(self) -> None:
        if self.incomplete not in list(Incomplete):
            raise UsageError(
                f"cv.incomplete={self.incomplete!r} is unknown; expected one of {', '.join(Incomplete)}"
            )


@dataclass(frozen=True, eq=False)
class Split:
    """The folds of a scheme.

    Attributes
    ----------
    folds : dict of int to (train, test) index arrays
        The folds that can be fitted and scored, by their number in the scheme, from 1.
    skipped : DataFrame, one row per fold that is left out
        ``scheme, fold, runs_held_out, n_train, n_test``, and the reason as ``skipped``.
    """

    folds: dict[int, tuple[np.ndarray, np.ndarray]]
    skipped: pd.DataFrame


class HoldOutLast(BaseCrossValidator):
    """Hold out the last volumes of the recording, once.

    This is the first scheme of nilearn's introduction to decoding: train on all but the last 30 volumes.

    Parameters
    ----------
    n_volumes : int
        How many volumes are held out, counted among the selected volumes in their recorded order.
    """

    n_volumes: int

    def __init__(self, n_volumes: int = 30) -> None:
        if isinstance(n_volumes, bool) or not isinstance(n_volumes, Integral):
            raise ValueError(f"n_volumes={n_volumes!r} is not a whole number; expected, for example, 30")
        self.n_volumes = n_volumes

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Return 1: there is one fold."""
        return 1

    def _iter_test_indices(
        self, X: np.ndarray, y: object = None, groups: object = None
    ) -> Iterator[np.ndarray]:
        n_samples = len(X)
        if not 0 < self.n_volumes < n_samples:
            raise ValueError(
                f"n_volumes={self.n_volumes} of {n_samples} selected volumes cannot be held out; "
                f"expected 1 to {n_samples - 1}"
            )
        yield np.arange(n_samples - self.n_volumes, n_samples)


def split_samples(samples: Samples, scheme: Scheme) -> Split:
    """Split samples into folds, and find the folds that cannot be fitted or scored.

    A held-out set of one class has no area under the curve and no balanced accuracy; on a training set that
    lacks a class, the decoder cannot be fitted.

    Raises
    ------
    DesignError
        If the scheme does not fit the samples, no fold is complete, or a fold is incomplete and the scheme
        does not skip such folds.
    """
    try:
        with warnings.catch_warnings():
            # Splitters that do not use runs warn of it at every call.
            warnings.filterwarnings("ignore", message="The groups parameter is ignored")
            found = scheme.splitter.split(samples.X, samples.y, groups=samples.runs)
            every = dict(enumerate(islice(found, MAX_FOLDS + 1), start=1))
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        raise DesignError(
            f"cv={scheme.name} cannot split {len(samples.y)} volumes of {len(set(samples.runs))} run(s): "
            f"{error}"
        ) from error
    if len(every) > MAX_FOLDS:
        raise DesignError(f"cv={scheme.name} makes more than {MAX_FOLDS} folds; choose a scheme with fewer")
    lacking = {
        number: reason for number, fold in every.items() if (reason := _find_lack(samples, *fold)) is not None
    }
    complete = {number: fold for number, fold in every.items() if number not in lacking}
    if lacking and (scheme.incomplete == Incomplete.REFUSE or not complete):
        number, reason = next(iter(lacking.items()))
        remedy = "set cv.incomplete=skip to leave such folds out, or " if complete else ""
        raise DesignError(f"cv={scheme.name}: fold {number}: {reason}: {remedy}choose another cv or contrast")
    if lacking:
        _warn_of_skipped(scheme, lacking, len(every))
    rows = [describe_fold(samples, scheme, n, *every[n]) | {"skipped": lacking[n]} for n in lacking]
    columns = ["scheme", "fold", "runs_held_out", "n_train", "n_test", "skipped"]
    return Split(complete, pd.DataFrame(rows, columns=columns))


def _find_lack(samples: Samples, train: np.ndarray, test: np.ndarray) -> str | None:
    """Return why a fold cannot be fitted or scored; None if it can."""
    classes = set(samples.contrast.classes)
    for part, rows, needed in (("training", train, len(classes)), ("held-out", test, 2)):
        missing = sorted(classes - set(samples.y[rows].tolist()))
        if len(classes) - len(missing) < needed:
            runs = ", ".join(str(run) for run in np.unique(samples.runs[rows]))
            return (
                f"the {part} volumes ({len(rows)}, of run {runs}) have no {', '.join(map(repr, missing))}; "
                f"at least {needed} classes are needed there"
            )
    return None


def _warn_of_skipped(scheme: Scheme, lacking: Mapping[int, str], n_folds: int) -> None:
    shown = [f"fold {number}: {reason}" for number, reason in list(lacking.items())[:MAX_SKIPPED_SHOWN]]
    more = len(lacking) - len(shown)
    warnings.warn(
        f"cv={scheme.name}: {len(lacking)} of {n_folds} folds are skipped (cv.incomplete=skip), and every "
        f"score is over the other {n_folds - len(lacking)}. {'. '.join(shown)}"
        + (f". {more} more are listed in folds.csv" if more else ""),
        stacklevel=2,
    )


def describe_fold(
    samples: Samples, scheme: Scheme, number: int, train: np.ndarray, test: np.ndarray
) -> dict[str, object]:
    """Return the columns that describe a fold."""
    return {
        "scheme": scheme.name,
        "fold": number,
        "runs_held_out": " ".join(str(run) for run in np.unique(samples.runs[test])),
        "n_train": len(train),
        "n_test": len(test),
    }
