"""What the solvers claim about the error of their coefficients holds, whatever the scales of the data.

The optimum is computed here in extended precision, by Newton's method in primal space on an orthogonal
factorisation, with gradients in decimal arithmetic: nothing is shared with the code under test.
"""

import warnings
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import LinAlgWarning
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedKFold

from harness.decoding.decoder import fit_decoder
from harness.decoding.estimator import Estimator
from harness.samples.samples import FoldPreprocessing
from harness.solvers.estimators import (
    ExactLDA,
    ExactLinearSVC,
    ExactLogisticRegressionCV,
    ExactRidgeClassifierCV,
)
from harness.solvers.logistic import (
    solve_logistic,
    solve_logistic_cv,
    solve_logistic_cv_gram,
    solve_logistic_gram,
)
from harness.solvers.ridge import solve_ridge_cv, solve_ridge_cv_gram
from harness.solvers.spaces import compute_gram
from harness.solvers.squared_hinge import solve_squared_hinge, solve_squared_hinge_gram

SOLVERS = {"squared hinge": solve_squared_hinge, "logistic": solve_logistic}
GRAM_SOLVERS = {"squared hinge": solve_squared_hinge_gram, "logistic": solve_logistic_gram}
FACTOR = 10
"""A claim may be exceeded by this factor at most."""

EXTENDED = np.finfo(np.longdouble).eps < np.finfo(float).eps
"""Whether the platform has an extended precision to solve again in; without it, warnings are in place."""


def slopes(loss, C, y, f):
    if loss == "squared hinge":
        excess = np.maximum(1 - y * f, Decimal(0))
        return 2 * C * y * excess, 2 * C * (excess > 0)
    q = np.array([1 / (1 + margin.exp()) for margin in np.minimum(y * f, Decimal(10**4))])
    return C * y * q, C * q * (1 - q)


def objective(loss, C, y, f, w):
    if loss == "squared hinge":
        return w @ w / 2 + C * (np.maximum(1 - y * f, Decimal(0)) ** 2).sum()
    return w @ w / 2 + C * sum((1 + (-margin).exp()).ln() for margin in y * f)


def solve_normal_equations(A, b):
    """Solve (I + A^T A) x = b by Householder reflections of (A, I), never forming the product."""
    p = A.shape[1]
    M = np.vstack([A, np.eye(p, dtype=A.dtype)])
    for j in range(p):
        reflector = M[j:, j].copy()
        reflector[0] += np.copysign(np.sqrt(reflector @ reflector), reflector[0])
        reflector /= np.sqrt(reflector @ reflector)
        M[j:, j:] -= 2 * np.outer(reflector, reflector @ M[j:, j:])
    x = b.copy()
    for j in range(p):
        x[j] = (x[j] - M[:j, j] @ x[:j]) / M[j, j]
    for j in reversed(range(p)):
        x[j] = (x[j] - M[j, j + 1 : p] @ x[j + 1 :]) / M[j, j]
    return x


to_decimal = np.vectorize(lambda number: Decimal(float(number)), otypes=[object])


def extended_optimum(X, y, C, loss):
    """Coefficients and intercept of the optimum, right to 1e-20 and rounded to float64.

    Newton's method: the gradient in 50 decimal digits, the step from it in `numpy.longdouble`.
    """
    X = np.column_stack([X, np.ones(len(X))])
    X_long, X, y, C = X.astype(np.longdouble), to_decimal(X), to_decimal(y), Decimal(C)
    w = to_decimal(np.zeros(X.shape[1]))
    with localcontext() as context:
        context.prec = 50
        for _ in range(300):
            f = X @ w
            s, h = slopes(loss, C, y, f)
            A = X_long * np.sqrt(h.astype(np.longdouble))[:, None]
            d = to_decimal(-solve_normal_equations(A, (w - X.T @ s).astype(np.longdouble)))
            if d @ d <= Decimal("1e-40") * (w @ w):
                return (w + d).astype(float)
            share, J = Decimal(1), objective(loss, C, y, f, w)
            while share > Decimal("1e-9") and objective(loss, C, y, X @ (w + share * d), w + share * d) > J:
                share /= 2
            w = w + share * d
    raise AssertionError("the reference itself did not converge")


def samples(n, p, scales="equal", mean=0.0, sd=1.0, seed=0):
    rng = np.random.default_rng(seed)
    X = sd * rng.standard_normal((n, p)) * {"equal": 1.0, "graded": np.geomspace(1e-4, 1e4, p)}[scales] + mean
    y = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    return X + sd * 0.3 * y[:, None] * (np.arange(p) % 3 == 0), y


DATA = {
    "graded columns, 30 x 29": {"n": 30, "p": 29, "scales": "graded"},
    "graded columns, 30 x 45": {"n": 30, "p": 45, "scales": "graded"},
    "graded columns, 30 x 15": {"n": 30, "p": 15, "scales": "graded"},
    "mean 1e4, 30 x 31": {"n": 30, "p": 31, "mean": 1e4},
    "mean 1e4, 30 x 29": {"n": 30, "p": 29, "mean": 1e4},
    "mean 1e6, 30 x 31": {"n": 30, "p": 31, "mean": 1e6},
    "mean 1e3, 30 x 75": {"n": 30, "p": 75, "mean": 1e3},
    "SD 1e5, 30 x 29": {"n": 30, "p": 29, "sd": 1e5},
    "SD 1e5, 30 x 28": {"n": 30, "p": 28, "sd": 1e5},
    "SD 1e6, 30 x 30": {"n": 30, "p": 30, "sd": 1e6},
    "SD 1e-6, 30 x 31": {"n": 30, "p": 31, "sd": 1e-6},
    "plain, 30 x 45": {"n": 30, "p": 45},
    "plain, 30 x 10": {"n": 30, "p": 10},
}
SLOW_DATA = {
    "graded columns, 60 x 59": {"n": 60, "p": 59, "scales": "graded"},
    "mean 1e4, 60 x 61": {"n": 60, "p": 61, "mean": 1e4},
    "SD 1e5, 60 x 59": {"n": 60, "p": 59, "sd": 1e5},
    "mean 1e3, 60 x 400": {"n": 60, "p": 400, "mean": 1e3},
}
REPRESENTATIVE = ("graded columns, 30 x 29", "mean 1e4, 30 x 31", "SD 1e6, 30 x 30", "plain, 30 x 10")


def cases(names, default=REPRESENTATIVE):
    """Names as parameters, all but a few of them marked slow."""
    return [name if name in default else pytest.param(name, marks=pytest.mark.slow) for name in names]


NAMES = cases([*DATA, *SLOW_DATA])
OUT_OF_REACH = ("mean 1e6, 30 x 31", "SD 1e6, 30 x 30")
"""Where 64 bits of mantissa do not suffice either, for C=1e4, and a warning is in place."""

CS = (1e-3, 1.0, 1e4)


@cache
def reference(name, C, loss):
    X, y = samples(**(DATA | SLOW_DATA)[name])
    return extended_optimum(X, y, C, loss)


def relative_error(w, expected):
    return np.linalg.norm(w - expected) / np.linalg.norm(expected)


def recorded(task):
    """The task's result, and whether it issued a ConvergenceWarning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        result = task()
    return result, any(issubclass(one.category, ConvergenceWarning) for one in caught)


def check_claims(solutions, warned, X, optima):
    """Every claim is an upper bound of the true error or is withdrawn, aloud; return the true errors."""
    assert warned == (not solutions.converged.all())
    errors = np.empty(len(optima))
    for k, expected in enumerate(optima):
        w = np.append(solutions.coef(X)[0, k, 0], solutions.intercepts[0, k, 0])
        errors[k] = relative_error(w, expected)
        claim = solutions.steps[0, k, 0]
        assert errors[k] <= FACTOR * claim, f"C number {k}: error {errors[k]:.1e}, claimed {claim:.1e}"
        if solutions.converged[0, k, 0]:
            # A decoder too short for any decision value to reach the margin is measured against the shortest
            # one that could: docs/exact_solvers.md.
            size = np.linalg.norm(expected)
            shortest = 1 / np.linalg.norm(np.column_stack([X, np.ones(len(X))]), axis=1).max()
            assert errors[k] * size <= 1e-7 * max(size, shortest)
            f = np.column_stack([X, np.ones(len(X))]) @ expected
            scale = np.linalg.norm(X, axis=1).max() * np.linalg.norm(expected) + 1
            np.testing.assert_allclose(solutions.decisions[0, k, 0], f, atol=FACTOR * claim * scale)
    return errors


@pytest.mark.parametrize("loss", SOLVERS)
@pytest.mark.parametrize("name", NAMES)
def test_the_claimed_error_is_an_upper_bound_of_the_true_one(name, loss):
    X, y = samples(**(DATA | SLOW_DATA)[name])
    optima = [reference(name, C, loss) for C in CS]
    for space in ("auto", "dual", "primal"):
        solutions, warned = recorded(
            lambda space=space: SOLVERS[loss](X, y, [np.arange(len(y))], CS, space=space)
        )
        errors = check_claims(solutions, warned, X, optima)
        if EXTENDED and space != "dual" and name not in OUT_OF_REACH:
            assert not warned and errors.max() <= 1e-8


@pytest.mark.parametrize("loss", GRAM_SOLVERS)
@pytest.mark.parametrize("name", NAMES)
def test_the_gram_matrix_alone_claims_no_more_than_it_holds(name, loss):
    X, y = samples(**(DATA | SLOW_DATA)[name])
    optima = [reference(name, C, loss) for C in CS]
    K = compute_gram(X)
    solutions, warned = recorded(lambda: GRAM_SOLVERS[loss](K, y, [np.arange(len(y))], CS))
    check_claims(solutions, warned, X, optima)
    if name.startswith("plain"):
        assert not warned


def claims_of_random_data(loss, n, p, scales, mean, log_sd, log_C, seed):
    X, y = samples(n, p, scales, mean, 10**log_sd, seed)
    expected = extended_optimum(X, y, 10**log_C, loss)
    for space in ("auto", "dual", "primal", "gram"):
        solve, A = SOLVERS[loss], X
        if space == "gram":
            solve, A = GRAM_SOLVERS[loss], compute_gram(X)
        how = {} if space == "gram" else {"space": space}
        solutions, warned = recorded(lambda s=solve, A=A, h=how: s(A, y, [np.arange(n)], [10**log_C], **h))
        check_claims(solutions, warned, X, [expected])


RANDOM = {
    "n": st.integers(8, 30),
    "p": st.integers(4, 40),
    "scales": st.sampled_from(["equal", "graded"]),
    "mean": st.sampled_from([0.0, 10.0, 1e3, 1e5]),
    "log_sd": st.floats(-5, 5),
    "log_C": st.floats(-3, 4),
    "seed": st.integers(0, 1000),
}


@pytest.mark.parametrize("loss", SOLVERS)
@settings(max_examples=5, deadline=None)
@given(**RANDOM)
def test_claims_hold_on_random_scales(loss, **drawn):
    claims_of_random_data(loss, **drawn)


@pytest.mark.slow
@pytest.mark.parametrize("loss", SOLVERS)
@settings(max_examples=300, deadline=None)
@given(**RANDOM)
def test_claims_hold_on_many_random_scales(loss, **drawn):
    claims_of_random_data(loss, **drawn)


ESTIMATORS = {"squared hinge": ExactLinearSVC, "logistic": lambda C: ExactLogisticRegressionCV([C])}


@pytest.mark.parametrize("loss", ESTIMATORS)
@pytest.mark.parametrize("p", cases([28, 29, 30, 31], [30]))
@pytest.mark.parametrize("sd", [1e5, 1e7, 1e9])
def test_fitting_samples_of_any_size_ends_at_the_optimum_or_warns(loss, p, sd):
    X, y = samples(30, p, sd=sd)
    model, warned = recorded(lambda: ESTIMATORS[loss](C=1e4).fit(X, y))
    w = np.append(model.coef_, model.intercept_)
    if not warned:
        assert relative_error(w, extended_optimum(X, y, 1e4, loss)) < 1e-7
    elif EXTENDED:
        assert sd > 1e5


@pytest.mark.parametrize("loss", ESTIMATORS)
def test_each_of_several_classes_is_at_its_optimum(loss):
    X, _ = samples(30, 31, mean=1e4)
    y = np.arange(30) % 3
    model, warned = recorded(lambda: ESTIMATORS[loss](C=1.0).fit(X, y))
    for code in range(3):
        expected = extended_optimum(X, np.where(y == code, 1.0, -1.0), 1.0, loss)
        w = np.append(model.coef_[code], model.intercept_[code])
        assert warned or relative_error(w, expected) < 1e-8
    assert not (EXTENDED and warned)


@pytest.mark.parametrize("loss", SOLVERS)
def test_folds_that_keep_their_digits_stay_as_they_are_beside_one_that_does_not(loss):
    X, y = samples(60, 90)
    train_sets = [np.arange(40), np.arange(20, 60)]
    plain = SOLVERS[loss](X, y, train_sets, [1.0, 10.0])
    shifted = X.copy()
    shifted[0] += 1e7  # in the first training set alone
    solutions, warned = recorded(lambda: SOLVERS[loss](shifted, y, train_sets, [1.0, 10.0]))
    assert plain.space == "dual" and solutions.space == "primal"
    np.testing.assert_allclose(solutions.coef(shifted)[1], plain.coef(X)[1], rtol=0, atol=1e-12)
    for k, C in enumerate((1.0, 10.0)):
        w = np.append(solutions.weights[0, k, 0], solutions.intercepts[0, k, 0])
        expected = extended_optimum(shifted[:40], y[:40], C, loss)
        assert relative_error(w, expected) <= FACTOR * solutions.steps[0, k, 0]
    assert warned == (not solutions.converged.all())


@pytest.mark.parametrize("p", cases([31, 15], [15]))
def test_c_is_chosen_by_the_scores_of_inner_decoders_at_their_optimum(p):
    X, y = samples(30, p, mean=1e4)
    Cs = [1e-3, 1.0, 100.0]
    chosen, warned = recorded(lambda: solve_logistic_cv(X, y, [np.arange(30)], Cs))
    assert not (EXTENDED and warned)
    for fold, (train, held_out) in enumerate(StratifiedKFold(5).split(X, y)):
        for k, C in enumerate(Cs):
            w = extended_optimum(X[train], y[train], C, "logistic")
            f = X[held_out] @ w[:-1] + w[-1]
            expected = -np.logaddexp(0, -y[held_out] * f).mean()
            assert chosen.scores[0, 0, fold, k] == pytest.approx(expected, abs=1e-5)
    C = chosen.Cs[0, 0]
    assert C == Cs[np.argmax(chosen.scores[0, 0].sum(axis=0))]
    w = np.append(chosen.decoders.coef(X)[0, 0, 0], chosen.decoders.intercepts[0, 0, 0])
    error = relative_error(w, extended_optimum(X, y, C, "logistic"))
    assert error <= FACTOR * chosen.decoders.steps[0, 0, 0]
    model, _ = recorded(lambda: ExactLogisticRegressionCV(Cs).fit(X, y))
    assert model.C_ == C and relative_error(np.append(model.coef_, model.intercept_), w) < 1e-12


def test_a_choice_of_c_from_a_gram_matrix_without_digits_warns():
    X, y = samples(60, 61, mean=1e6)
    _, warned = recorded(lambda: solve_logistic_cv_gram(compute_gram(X), y, [np.arange(60)], [1.0, 100.0]))
    assert warned


@pytest.mark.parametrize("loss", ESTIMATORS)
def test_decoders_of_volumes_that_are_not_standardised_are_at_their_optima(loss, make_samples):
    X, y = samples(30, 31, mean=1e4)
    data = make_samples(X, np.where(y > 0, "b", "a"), np.repeat(range(3), 10))
    folds = [(np.flatnonzero(data.runs != run), np.flatnonzero(data.runs == run)) for run in range(3)]
    estimator = Estimator("exact", ESTIMATORS[loss](C=1.0), {"C": [1.0]} if loss == "squared hinge" else {})
    fit, warned = recorded(
        lambda: fit_decoder(data.X, data.y, folds, estimator, "accuracy", FoldPreprocessing(zscore=None))
    )
    assert not (EXTENDED and warned)
    optima = [extended_optimum(data.X[train].astype(float), y[train], 1.0, loss) for train, _ in folds]
    assert relative_error(np.append(fit.coef, fit.intercept), np.mean(optima, axis=0)) < 1e-8


@pytest.mark.slow
def test_claims_hold_where_no_extended_precision_exists(monkeypatch):
    """As on platforms whose `numpy.longdouble` is float64."""
    monkeypatch.setattr("harness.solvers.refinement.LONG", np.float64)
    for name in ("graded columns, 30 x 29", "mean 1e4, 30 x 31", "SD 1e5, 30 x 29"):
        X, y = samples(**(DATA | SLOW_DATA)[name])
        for loss, solve in SOLVERS.items():
            optima = [reference(name, C, loss) for C in CS]
            solutions, warned = recorded(lambda s=solve, X=X, y=y: s(X, y, [np.arange(len(y))], CS))
            check_claims(solutions, warned, X, optima)


@pytest.mark.parametrize("loss", GRAM_SOLVERS)
def test_low_rank_gram_matrices_are_solved_to_what_they_claim(loss):
    """Fewer voxels than samples: the usual reason for a singular Gram matrix, and no reason to warn."""
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((60, 20)), np.where(rng.random(60) < 0.5, 1.0, -1.0)
    Cs = [1.0, 10.0, 100.0]
    solutions, warned = recorded(lambda: GRAM_SOLVERS[loss](compute_gram(X), y, [np.arange(60)], Cs))
    assert not warned
    check_claims(solutions, warned, X, [extended_optimum(X, y, C, loss) for C in Cs])


@cache
def ridge_optimum(name, alpha):
    """Coefficients and intercept of the ridge classifier, with an intercept that is not penalised."""
    X, y = samples(**(DATA | SLOW_DATA)[name])
    X, y, alpha = to_decimal(X), to_decimal(y), Decimal(alpha)
    with localcontext() as context:
        context.prec = 50
        mean = X.sum(axis=0) / len(X)
        X_c, y_c = X - mean, y - y.sum() / len(y)
        A = X_c.astype(np.longdouble) / np.sqrt(np.longdouble(alpha))
        w = to_decimal(np.zeros(X.shape[1]))
        for _ in range(100):
            gradient = w + X_c.T @ (X_c @ w - y_c) / alpha
            d = to_decimal(-solve_normal_equations(A, gradient.astype(np.longdouble)))
            w = w + d
            if d @ d <= Decimal("1e-36") * (w @ w):
                return np.append(w.astype(float), float(y.sum() / len(y) - mean @ w))
    raise AssertionError("the reference itself did not converge")


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("name", NAMES)
def test_ridge_keeps_its_digits(name, alpha):
    X, y = samples(**(DATA | SLOW_DATA)[name])
    expected = ridge_optimum(name, alpha)
    model = ExactRidgeClassifierCV([alpha]).fit(X, y)
    decoders = ExactRidgeClassifierCV([alpha]).solve_folds(X, y[:, None], [np.arange(len(y))], {}).decoders
    f = X @ expected[:-1] + expected[-1]
    # Decision values are sums of terms of this size.
    scale = np.abs(f).max() + np.linalg.norm(X, axis=1).max() * np.linalg.norm(expected[:-1])
    for coef in (model.coef_[0], decoders.coef(X)[0, 0, 0]):
        assert relative_error(coef, expected[:-1]) < 2e-8
    np.testing.assert_allclose(model.decision_function(X), f, rtol=0, atol=2e-8 * scale)
    np.testing.assert_allclose(decoders.decisions[0, 0, 0], f, rtol=0, atol=2e-8 * scale)


@pytest.mark.parametrize("name", cases(DATA, REPRESENTATIVE[1:2]))
def test_ridge_chooses_alpha_by_the_errors_of_leaving_each_sample_out(name):
    X, y = samples(**DATA[name])
    alphas = [1e-3, 1.0, 1e3]
    errors = []
    for alpha in alphas:
        # scikit-learn's solver keeps the digits: it decomposes the samples, not their products.
        model = RidgeClassifier(alpha=alpha, solver="svd")
        left_out = [
            model.fit(np.delete(X, i, axis=0), np.delete(y, i)).decision_function(X[[i]])[0]
            for i in range(len(y))
        ]
        errors.append(((y - left_out) ** 2).mean())
    decoders, chosen = solve_ridge_cv(X, y, [np.arange(len(y))], alphas)
    # Near ties may go either way.
    assert errors[alphas.index(chosen[0, 0])] <= min(errors) * (1 + 1e-4)
    assert relative_error(decoders.coef(X)[0, 0, 0], ridge_optimum(name, chosen[0, 0])[:-1]) < 2e-8
    assert ExactRidgeClassifierCV(alphas).fit(X, y).alpha_ == chosen[0, 0]


def test_ridge_from_a_gram_matrix_without_digits_warns():
    X, y = samples(30, 45, mean=1e6)
    with pytest.warns(LinAlgWarning, match="1 of 1 ridge decoders"):
        solve_ridge_cv_gram(compute_gram(X), y, [np.arange(30)], [1.0, 10.0])


def extended_discriminant(X, y):
    """Weights of LDA with Ledoit-Wolf shrinkage for two classes, from its definition."""
    X = X.astype(np.longdouble)
    rows, diagonal, means = [], np.zeros(X.shape[1], dtype=np.longdouble), []
    for label in (-1, 1):
        members = X[y == label]
        n, p = members.shape
        means.append(members.mean(axis=0))
        centred = members - means[-1]
        scales = np.sqrt((centred**2).mean(axis=0))
        Z = centred / scales
        S = Z.T @ Z / n
        mu = np.trace(S) / p
        delta = ((S - mu * np.eye(p)) ** 2).sum() / p
        beta = sum(((np.outer(z, z) - S) ** 2).sum() for z in Z) / (n**2 * p)
        shrinkage = min(beta, delta) / delta
        rows.append(centred * np.sqrt((1 - shrinkage) / len(X)))
        diagonal += np.longdouble(n) / len(X) * shrinkage * mu * scales**2
    A, root = np.vstack(rows), np.sqrt(diagonal)
    w = solve_normal_equations(A / root, (means[1] - means[0]) / root) / root
    return w.astype(float)


@pytest.mark.parametrize("name", cases(DATA))
def test_lda_keeps_its_digits(name):
    X, y = samples(**DATA[name])
    expected = extended_discriminant(X, y)
    model = ExactLDA().fit(X, y)
    assert relative_error(model.coef_[0], expected) < 1e-8
    decoders = ExactLDA().solve_folds(X, y[:, None], [np.arange(len(y))], {}).decoders
    assert relative_error(decoders.coef(X)[0, 0, 0], expected) < 1e-8
