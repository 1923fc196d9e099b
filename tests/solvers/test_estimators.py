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
    ExactLogisticRegressionCV,
    ExactRidgeClassifierCV,
)


@parametrize_with_checks(
    [
        ExactLinearSVC(),
        ExactLogisticRegressionCV(cv=2),
        ExactRidgeClassifierCV(),
        ExactLDA(),
    ]
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def three_classes():
    X, y = load_iris(return_X_y=True)
    return scale(X), np.array(["face", "cat", "house"])[y]


def two_classes(p=120):
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat(["cat", "face"], [25, 35]))
    return rng.standard_normal((60, p)) + 0.3 * (y == "face")[:, None], y


@pytest.fixture(params=["two", "three"])
def samples(request):
    return two_classes() if request.param == "two" else three_classes()


def test_svm_equals_liblinear(samples):
    X, y = samples
    exact = ExactLinearSVC(C=2.0).fit(X, y)
    reference = LinearSVC(C=2.0, dual=True, tol=1e-10, max_iter=10**7, random_state=0).fit(X, y)
    np.testing.assert_allclose(exact.coef_, reference.coef_, atol=1e-8)
    np.testing.assert_allclose(exact.intercept_, reference.intercept_, atol=1e-8)
    np.testing.assert_array_equal(exact.predict(X), reference.predict(X))
    assert exact.gradient_ < 1e-12


def test_logistic_equals_liblinear(samples):
    X, y = samples
    exact = ExactLogisticRegressionCV([2.0]).fit(X, y)
    reference = OneVsRestClassifier(LogisticRegression(C=2.0, solver="liblinear", tol=1e-12, max_iter=1000))
    reference.fit(X, y)
    np.testing.assert_allclose(exact.predict_proba(X), reference.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(np.exp(exact.predict_log_proba(X)), exact.predict_proba(X))
    np.testing.assert_array_equal(exact.predict(X), reference.predict(X))


def test_logistic_cv_chooses_as_liblinear_does(samples):
    X, y = samples
    exact = ExactLogisticRegressionCV().fit(X, y)
    single = LogisticRegressionCV(
        Cs=np.geomspace(1e-3, 1e4, 8),
        cv=5,
        scoring="neg_log_loss",
        solver="liblinear",
        tol=1e-8,
        max_iter=1000,
        l1_ratios=(0,),
        use_legacy_attributes=False,
    )
    reference = OneVsRestClassifier(single).fit(X, y)
    np.testing.assert_array_equal(np.atleast_1d(exact.C_), [one.C_ for one in reference.estimators_])
    np.testing.assert_allclose(exact.predict_proba(X), reference.predict_proba(X), atol=1e-4)
    assert exact.scores_.shape == ((5, 8) if len(exact.classes_) == 2 else (3, 5, 8))


@pytest.mark.parametrize("alphas", [DECADES, (3.0,)])
def test_ridge_equals_scikit_learn(samples, alphas):
    X, y = samples
    exact = ExactRidgeClassifierCV(alphas).fit(X, y)
    single = len(alphas) == 1
    reference = RidgeClassifier(alpha=alphas[0]) if single else RidgeClassifierCV(alphas=alphas)
    reference.fit(X, y)
    assert exact.alpha_ == (3.0 if single else reference.alpha_)
    np.testing.assert_allclose(exact.coef_, np.atleast_2d(reference.coef_), atol=1e-10)
    np.testing.assert_allclose(exact.intercept_, reference.intercept_, atol=1e-10)
    np.testing.assert_allclose(exact.decision_function(X), reference.decision_function(X), atol=1e-10)


def test_lda_equals_scikit_learn(samples):
    X, y = samples
    exact = ExactLDA().fit(X, y)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(X, y)
    np.testing.assert_allclose(exact.coef_, reference.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(exact.intercept_, reference.intercept_, rtol=1e-8)
    np.testing.assert_allclose(exact.predict_proba(X), reference.predict_proba(X), atol=1e-8)
    np.testing.assert_array_equal(exact.predict(X), reference.predict(X))


def test_positive_decision_values_are_evidence_for_the_second_class():
    X, y = two_classes()
    for classifier in (ExactLinearSVC(), ExactLogisticRegressionCV(), ExactRidgeClassifierCV(), ExactLDA()):
        f = classifier.fit(X, y).decision_function(X)
        assert list(classifier.classes_) == ["cat", "face"]
        assert f[y == "face"].mean() > f[y == "cat"].mean()
