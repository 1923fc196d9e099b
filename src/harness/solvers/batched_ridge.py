"""Ridge classifiers of many small sets of voxels, as linear functions of the labels.

    min_w,b  ||y - X w - b||^2 + alpha ||w||^2

For label vectors y = C z the decision values of samples T are (T M + 1 m^T) z with M = (X_c^T X_c + alpha I)^-1
X_c^T C and a row of intercepts m, so that one operator serves any number of labellings; the squared errors of
leaving each training sample out are quadratic forms in z.
"""

from dataclasses import dataclass

import numpy as np

from harness.solvers.cholesky import Array
from harness.solvers.ridge import RidgeDecomposition, decompose_ridge


@dataclass(frozen=True, eq=False)
class RidgeOperators:
    """Decision values and left-out errors of one training set, for several alphas.

    Attributes
    ----------
    decisions : ndarray of shape (n_spheres, n_alphas, n_test, n_basis)
        Decision values of the samples to predict are these times z.
    errors : ndarray of shape (n_spheres, n_alphas, n_basis, n_basis), or None for a single alpha
        Q of the sum of squared left-out errors z^T Q z.
    """

    decisions: Array
    errors: Array | None


def solve_ridge_exactly(training: Array, held_out: Array, C: Array, alphas: Array) -> RidgeOperators:
    """Solve by a singular value decomposition of every training set: slow, and right whatever its rank.

    Parameters
    ----------
    training : ndarray of shape (n_spheres, n_train, n_voxels)
    held_out : ndarray of shape (n_spheres, n_test, n_voxels)
    C : ndarray of shape (n_train, n_basis)
    alphas : ndarray of shape (n_alphas,)
    """
    n_spheres, n_test, _ = held_out.shape
    n_alphas, k = len(alphas), C.shape[1]
    decisions = np.empty((n_spheres, n_alphas, n_test, k))
    errors = np.empty((n_spheres, n_alphas, k, k)) if n_alphas > 1 else None
    for s in range(n_spheres):
        factor = decompose_ridge(training[s])
        shifted = held_out[s] - training[s].mean(axis=0)
        for a, alpha in enumerate(alphas.tolist()):
            coef = _map_labels(factor, alpha, C)
            decisions[s, a] = shifted @ coef + C.mean(axis=0)
            if errors is not None:
                residuals = factor.residual_maker(alpha) @ C
                residuals /= factor.leave_one_out_scales(alpha)[:, np.newaxis]
                errors[s, a] = residuals.T @ residuals
    return RidgeOperators(decisions, errors)


def _map_labels(factor: RidgeDecomposition, alpha: float, C: Array) -> Array:
    """Return the coefficients of every basis vector, (n_voxels, n_basis)."""
    shrunk = np.sqrt(factor.eigenvalues) / (factor.eigenvalues + alpha)
    return factor.V_T.T @ (shrunk[:, np.newaxis] * (factor.U.T @ C))
