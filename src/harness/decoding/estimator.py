"""A classifier and the grid of its parameters."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, clone, is_classifier
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.svm import LinearSVC

from harness.errors import UsageError
from harness.solvers.estimators import LinearClassifier

DUMMY_STRATEGIES = ("most_frequent", "prior", "stratified")
L1_LOSSES = {LinearSVC: "squared_hinge", LogisticRegression: "log", LogisticRegressionCV: "log"}
# What classifiers raise at arguments that they do not take, or that do not fit the samples.
REFUSALS = (TypeError, ValueError, ArithmeticError, AttributeError, LookupError)


@dataclass(frozen=True)
class Estimator:
    """A scikit-learn classifier and the grid of its parameters.

    Attributes
    ----------
    name : str
        Option, as the user types it after ``estimator=``.
    model : ClassifierMixin
        Unfitted classifier; cloned for every fit.
    grid : mapping of str to list
        Values to try for each parameter. ``{"C": {"times_l1_min_c": [2, 20]}}`` means multiples of the
        smallest C for which an L1-penalised model is not empty, found for every training set.
    """

    name: str
    model: ClassifierMixin
    grid: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_classifier(self.model):
            raise UsageError(
                f"estimator={self.name}: {type(self.model).__name__} is not a classifier; expected one, for "
                "example, sklearn.svm.LinearSVC"
            )
        for name, values in self.grid.items():
            if isinstance(values, Mapping) and (
                set(values) != {"times_l1_min_c"} or not isinstance(self.model, tuple(L1_LOSSES))
            ):
                raise UsageError(
                    f"estimator.grid.{name}={dict(values)}: expected a list of values, or, for a LinearSVC "
                    "or LogisticRegression, {times_l1_min_c: [2, 20, 200]}"
                )
            if isinstance(values, Mapping):
                _check_multiples(name, values["times_l1_min_c"])
        self._check_arguments()
        if self.is_dummy and self.model.strategy not in DUMMY_STRATEGIES:
            raise UsageError(
                f"estimator={self.name}: a DummyClassifier with strategy={self.model.strategy!r} is not "
                f"supported by nilearn's Decoder; expected one of {', '.join(DUMMY_STRATEGIES)}"
            )

    def _check_arguments(self) -> None:
        """Raise for arguments and grid values that the classifier refuses, before any data are read."""
        values = {key: tried for key, tried in self.grid.items() if not isinstance(tried, Mapping)}
        try:
            if isinstance(self.model, LinearClassifier):
                self.model.check_arguments(values)
                return
            if not type(self.model).__module__.startswith("sklearn."):
                return  # the behaviour of other classes without samples is unknown
            for key, value in [*self.model.get_params(deep=False).items(), *values.items()]:
                _refuse_nan(key, value)
            _check_by_fitting(self.model)
            for key, tried in values.items():
                for value in tried:
                    _check_by_fitting(clone(self.model).set_params(**{key: value}))
        except (TypeError, ValueError) as error:
            raise UsageError(f"estimator={self.name}: {error}") from error

    @property
    def is_dummy(self) -> bool:
        """Whether it uses the labels alone, and so has no weights."""
        return isinstance(self.model, DummyClassifier)

    @property
    def chooses_on_scored_fold(self) -> bool:
        """Whether selected scores are of several values of the grid the best, on the fold that is scored."""
        sizes = (
            len(values["times_l1_min_c"] if isinstance(values, Mapping) else values)
            for values in self.grid.values()
        )
        return any(size > 1 for size in sizes)

    @property
    def is_solved_together(self) -> bool:
        """Whether all folds, values of the grid and problems can be solved at once."""
        return isinstance(self.model, LinearClassifier) and self.model.takes_grid(self.grid)


def _check_multiples(name: str, multiples: Any) -> None:
    if not isinstance(multiples, list | tuple) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
        for value in multiples
    ):
        raise UsageError(
            f"estimator.grid.{name}.times_l1_min_c={multiples!r} cannot be used; expected numbers above 0, "
            "for example, [2,20,200]"
        )


def _refuse_nan(key: str, value: Any) -> None:
    """Raise a ValueError for NaN, which scikit-learn accepts in lists: liblinear never ends with C = NaN."""
    values = value if isinstance(value, list | tuple | np.ndarray) else [value]
    if any(isinstance(each, float) and math.isnan(each) for each in values):
        raise ValueError(f"{key}={value!r} cannot be used; expected numbers, not NaN")


def _check_by_fitting(model: ClassifierMixin) -> None:
    """Raise scikit-learn's errors for invalid arguments, and no others.

    scikit-learn checks arguments at the start of `fit`, before the samples. The fit below has no samples, so
    it always fails; the error for arguments is both a ValueError and a TypeError, that for samples is not.
    """
    try:
        clone(model).fit(np.empty((0, 1)), np.empty(0))
    except REFUSALS as error:
        if isinstance(error, TypeError) and isinstance(error, ValueError):
            raise
