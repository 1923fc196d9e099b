"""Invalid arguments are reported by name."""

import numpy as np
import pytest
from optima import simulated

from harness.solvers.logistic import (
    solve_logistic,
    solve_logistic_gram,
)
from harness.solvers.squared_hinge import solve_squared_hinge


def test_messages_name_what_is_wrong():
    X, Y, train_sets = simulated()
    with pytest.raises(ValueError, match="Training set 1 holds only one class of label vector 0"):
        solve_squared_hinge(X, Y[:, 0], [train_sets[0], np.flatnonzero(Y[:, 0] > 0)], [1.0])
    with pytest.raises(ValueError, match="contains a sample twice"):
        solve_squared_hinge(X, Y, [[0, 1, 2, 3, 4, 5, 6, 0]], [1.0])
    with pytest.raises(ValueError, match="C must be positive"):
        solve_squared_hinge(X, Y, train_sets, [0.0])
    with pytest.raises(ValueError, match="-1 and \\+1 only"):
        solve_squared_hinge(X, np.zeros(len(X)), train_sets, [1.0])
    with pytest.raises(ValueError, match="finite"):
        solve_squared_hinge(np.full_like(X, np.nan), Y, train_sets, [1.0])
    with pytest.raises(ValueError, match="square"):
        solve_logistic_gram(X, Y, train_sets, [1.0])
    with pytest.raises(ValueError, match="'auto', 'dual' or 'primal'"):
        solve_logistic(X, Y, train_sets, [1.0], space="both")
    with pytest.raises(ValueError, match="must have shape"):
        solve_logistic(X, Y[:-1], train_sets, [1.0])
