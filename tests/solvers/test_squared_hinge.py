"""Squared hinge decoders equal liblinear at a tight tolerance, and non-negative least squares."""

import numpy as np
import pytest
from hypothesis import given, settings
from optima import (
    augment,
    distance_to_optimum,
    joined,
    problems,
    size,
)
from scipy.optimize import nnls
from sklearn.svm import LinearSVC

from harness.solvers.squared_hinge import solve_squared_hinge


def solve_by_nnls(X, y, C):
    """The dual of the squared hinge: min_{b >= 0} 1/2 b^T (Q + I / 2C) b - sum(b) as least squares."""
    signed = augment(X) * y[:, None]
    n, p = signed.shape
    A = np.vstack([signed.T, np.eye(n) / np.sqrt(2 * C)])
    b, _ = nnls(A, np.append(np.zeros(p), np.full(n, np.sqrt(2 * C))), maxiter=1000 * n)
    return signed.T @ b


@settings(max_examples=20, deadline=None)
@given(problem=problems())
def test_squared_hinge_equals_non_negative_least_squares(problem):
    X, y, C = problem
    w = joined(solve_squared_hinge(X, y, [np.arange(len(y))], [C]), X)
    expected = solve_by_nnls(X, y, C)
    # nnls is exact but for rounding, which its normal equations amplify where samples repeat each other.
    if distance_to_optimum(X, y, C, expected, "squared hinge") < 1e-9:
        assert np.linalg.norm(w - expected) < 1e-8 * size(X, y, C, expected, "squared hinge")


@pytest.mark.parametrize("C", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("name", [pytest.param("haxby2001-vt", marks=pytest.mark.slow), "haxby2001-slice"])
def test_squared_hinge_equals_tight_liblinear_on_real_volumes(load_face_cat, name, C):
    X, y, runs = load_face_cat(name)
    train = runs != runs[0]
    solutions = solve_squared_hinge(X, y, [train], [C])
    assert solutions.space == ("dual" if X.shape[1] == 577 else "primal")
    # The dual solver: liblinear's primal one stops between 5e-9 and 1e-7 even at tol=1e-12.
    reference = LinearSVC(C=C, dual=True, tol=1e-10, max_iter=10**6, random_state=0).fit(X[train], y[train])
    expected = np.append(reference.coef_, reference.intercept_)
    w = joined(solutions, X)
    assert np.linalg.norm(w - expected) < 1e-9 * np.linalg.norm(expected)
    assert np.linalg.norm(w - solve_by_nnls(X[train], y[train], C)) < 1e-12 * np.linalg.norm(w)
