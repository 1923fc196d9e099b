"""The losses of the iterative solvers, with their slopes and curvatures."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from harness.solvers.cholesky import Array


class SquaredHingeLoss:
    """The loss C max(0, 1 - y f)^2.

    Parameters
    ----------
    C : float
        Weight of the loss against the penalty.
    """

    def __init__(self, C: float) -> None:
        self.C = C
        self.slope_at_zero = 2 * C

    @classmethod
    def uniform(cls, C: float, n_samples: int) -> Self:
        """Return the loss with the same C for all samples."""
        return cls(C)

    def scale(self, share: float) -> Self:
        """Return the loss for C times a share."""
        return type(self)(self.C * share)

    def slopes(self, y: Array, f: Array) -> tuple[Array, Array]:
        """Return s = 2 C y max(0, 1 - y f) and the curvatures h, 2 C where that is above 0."""
        excess = 1.0 - y * f
        h = np.where(excess > 0, 2 * self.C, 0.0)
        return h * y * excess, h

    def value(self, y: Array, f: Array) -> float:
        """Return C sum_i max(0, 1 - y_i f_i)^2."""
        excess = np.maximum(0.0, 1.0 - y * f)
        return self.C * float(excess @ excess)


class SquaredHingeLosses:
    """The losses C max(0, 1 - y f)^2 of several problems.

    Parameters
    ----------
    C : ndarray of shape (n_problems, n_samples)
        Weight of every sample's loss against the penalty; 0 where a problem is not trained on a sample.
    """

    def __init__(self, C: Array) -> None:
        self.C = C

    def take(self, problems: NDArray[np.intp]) -> Self:
        """Return the losses of some of the problems."""
        return type(self)(self.C[problems])

    def slopes(self, y: Array, f: Array) -> tuple[Array, Array]:
        """Return s = 2 C y max(0, 1 - y f) and the curvatures h, 2 C where that is above 0."""
        excess = 1.0 - y * f
        h = (2 * self.C) * (excess > 0)
        return h * y * excess, h

    def value(self, y: Array, f: Array) -> Array:
        """Return C sum_i max(0, 1 - y_i f_i)^2 of every problem."""
        excess = np.maximum(0.0, 1.0 - y * f)
        return np.vecdot(self.C, excess * excess)


class LogisticLoss:
    """The losses C log(1 + exp(-y f)) of several problems.

    Parameters
    ----------
    C : ndarray of shape (n_problems, n_samples)
        Weight of every sample's loss against the penalty; 0 where a problem is not trained on a sample.
    """

    def __init__(self, C: Array) -> None:
        self.C = C
        self.slope_at_zero = C / 2

    @classmethod
    def uniform(cls, C: float, n_samples: int) -> Self:
        """Return the loss of one problem, with the same C for all samples."""
        return cls(np.full(n_samples, C))

    def take(self, problems: NDArray[np.intp] | int) -> Self:
        """Return the losses of some of the problems."""
        return type(self)(self.C[problems])

    def scale(self, share: float) -> Self:
        """Return the losses for C times a share."""
        return type(self)(self.C * share)

    def slopes(self, y: Array, f: Array) -> tuple[Array, Array]:
        """Return s = C y q and the curvatures h = C q (1 - q), q = 1 / (1 + exp(y f)), of the shape of f."""
        q = expit(-y * f)
        C_q = self.C * q
        return y * C_q, C_q * (1.0 - q)

    def value(self, y: Array, f: Array) -> Array:
        """Return C sum_i log(1 + exp(-y_i f_i)) of every problem."""
        return -np.vecdot(self.C, log_expit(y * f))
