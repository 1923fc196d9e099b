"""Optimality of squared hinge and logistic decoders, from the gradient written out in extended precision."""

import numpy as np
from hypothesis import strategies as st

from harness.solvers.logistic import (
    solve_logistic,
    solve_logistic_gram,
)
from harness.solvers.squared_hinge import solve_squared_hinge, solve_squared_hinge_gram

SOLVERS = {"squared hinge": solve_squared_hinge, "logistic": solve_logistic}


GRAM_SOLVERS = {"squared hinge": solve_squared_hinge_gram, "logistic": solve_logistic_gram}


SLOPES = {
    "squared hinge": lambda C, margins: 2 * C * np.maximum(0, 1 - margins),
    "logistic": lambda C, margins: C / (1 + np.exp(margins)),
}


CURVATURES = {
    "squared hinge": lambda C, margins: 2 * C * (margins < 1),
    "logistic": lambda C, margins: C / (2 + np.exp(margins) + np.exp(-margins)),
}


def augment(X):
    return np.column_stack([X, np.ones(len(X))])


def joined(solutions, X, i=0, k=0, j=0):
    """Coefficients and intercept of one decoder in one vector."""
    return np.append(solutions.coef(X)[i, k, j], solutions.intercepts[i, k, j])


def size(X, y, C, w, loss):
    """||w||, or what rounding leaves of terms that cancel to a w near 0."""
    X = augment(X)
    terms = SLOPES[loss](C, y * (X @ w)) @ np.linalg.norm(X, axis=1)
    return np.linalg.norm(w) + 1e-6 * terms


def distance_to_optimum(X, y, C, w, loss):
    """Length of a Newton step on the objective, its gradient summed in extended precision, relative to w."""
    rows = augment(X)
    X_long, w_long = rows.astype(np.longdouble), w.astype(np.longdouble)
    margins = y * (X_long @ w_long)
    gradient = (w_long - X_long.T @ (y * SLOPES[loss](C, margins))).astype(float)
    curvatures = CURVATURES[loss](C, margins.astype(float))
    hessian = np.eye(len(w)) + (rows.T * curvatures) @ rows
    return np.linalg.norm(np.linalg.solve(hessian, gradient)) / size(X, y, C, w, loss)


@st.composite
def problems(draw):
    n, p = draw(st.integers(2, 40)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.standard_normal((n, p)) + draw(st.sampled_from([0, 3])) * rng.standard_normal(p)
    n_positive = draw(st.integers(1, n - 1))
    y = rng.permutation(np.where(np.arange(n) < n_positive, 1.0, -1.0))
    shape = draw(
        st.sampled_from(["plain", "rows repeat", "low rank", "constant voxels", "separable", "one sample"])
    )
    if shape == "rows repeat":
        X = X[rng.integers(0, (n + 1) // 2, n)]
    elif shape == "low rank":
        X = X[:, :2] @ rng.standard_normal((X[:, :2].shape[1], p))
    elif shape == "constant voxels":
        X[:, : (p + 1) // 2] = 1.5
    elif shape == "separable":
        X += 2 * y[:, None] * rng.standard_normal(p)
    elif shape == "one sample":
        X[:] = X[0]
    return X, y, 10 ** draw(st.floats(-3, 4))


def simulated(n=60, p=90, n_labels=7, seed=3):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    Y = np.where(rng.random((n, n_labels)) < 0.5, 1.0, -1.0)
    folds = np.arange(n) % 5
    return X, Y, [folds != fold for fold in range(5)]
