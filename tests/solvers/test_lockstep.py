"""Problems that are minimised together end at their own optima."""

import numpy as np
import pytest
from optima import augment, distance_to_optimum, simulated

from harness.solvers import lockstep
from harness.solvers.c_path import LogisticPaths
from harness.solvers.spaces import DualSpace, PrimalSpace


@pytest.mark.parametrize("space", [DualSpace, PrimalSpace])
def test_problems_shorten_their_steps_each_by_itself(space, monkeypatch):
    """Some start on the wrong side, where the loss is straight and a full step overshoots, some do not."""
    X, Y, _ = simulated(n_labels=1)
    y, rows = Y[:, 0], augment(X)
    train_sets = [np.arange(60), np.arange(30), np.arange(5, 25), np.arange(20, 60)]
    whole = space(rows @ rows.T if space is DualSpace else rows)
    V = np.zeros((4, whole.n_weights))
    for i, strength in ((0, 1.0), (2, 30.0)):
        V[i] = -strength * (y if space is DualSpace else y @ rows)
        V[i] *= np.isin(np.arange(60), train_sets[i]) if space is DualSpace else 1.0
    shares, shorten = [], lockstep.shorten

    def watched(*arguments):
        shares.append(shorten(*arguments))
        return shares[-1]

    monkeypatch.setattr(lockstep, "shorten", watched)
    results = LogisticPaths(whole, train_sets).minimise(3.0, y, V, whole.decide(V), 1e-11, 200)
    assert any(0 < share < 1 for share in shares)
    assert results.converged.all() and results.n_iter[0] != results.n_iter[1]
    for train, v, f in zip(train_sets, results.V, results.F, strict=True):
        w = v @ rows if space is DualSpace else v
        assert distance_to_optimum(X[train], y[train], 3.0, w, "logistic") < 1e-10
        np.testing.assert_allclose(f, rows @ w, atol=1e-9)
