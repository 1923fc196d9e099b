"""Exact tests of a mean difference map over subjects under changes of sign, with TFCE.

The statistic of a voxel is

    Z = sum over subjects of d / sqrt(sum over subjects of d^2)

which has mean 0 and variance 1 over all patterns of signs, increases with Student's t, and is finite where
all subjects are alike.

References
----------
.. [1] Nichols, Holmes (2002), Human Brain Mapping 15:1-25, doi:10.1002/hbm.1058.
.. [2] Smith, Nichols (2009), NeuroImage 44:83-98, doi:10.1016/j.neuroimage.2008.03.061.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import DesignError
from harness.inference.corrections import TOLERANCE, share_reaching, threshold_of_maxima
from harness.inference.group_tests import CHUNK_NUMBERS, N_DRAWS

Array = NDArray[np.float64]

MIN_SUBJECTS = 12
MAX_ENUMERATED = 12  # subjects, whose 4096 patterns of signs are all computed


@dataclass(frozen=True, eq=False)
class SignFlipMap:
    """The test of a mean difference map, of the null hypothesis that all differences are symmetric about 0.

    Attributes
    ----------
    n : int
        Subjects.
    z : ndarray of shape (n_voxels,)
    p : ndarray of shape (n_voxels,)
        One-sided, not corrected; 1 where all differences are 0.
    p_fwe : ndarray of shape (n_voxels,)
        Corrected over voxels by the largest Z [1]_.
    tfce : ndarray of shape (n_voxels,)
        Of Z.
    p_tfce : ndarray of shape (n_voxels,)
        Corrected over voxels by the largest TFCE [2]_.
    threshold_tfce : float or None
        TFCE above it has a corrected p of at most .05; None for fewer than 20 patterns.
    n_patterns : int
        Patterns of signs, the true one included.
    is_exact : bool
        Whether these are all patterns.
    """

    n: int
    z: Array
    p: Array
    p_fwe: Array
    tfce: Array
    p_tfce: Array
    threshold_tfce: float | None
    n_patterns: int
    is_exact: bool


def refuse_few(n: int) -> str:
    """Return why a map of so many subjects is not tested by changes of sign; empty if it may be."""
    if n >= MIN_SUBJECTS:
        return ""
    return (
        f"{n} subjects have {2**n} patterns of signs, so that no p is below {1 / 2**n:.2g}; it takes "
        f"{MIN_SUBJECTS} subjects or more"
    )


def sign_flip_map(
    differences: ArrayLike,
    enhance: Callable[[Array], Array],
    n_draws: int = N_DRAWS,
    seed: int = 0,
    *,
    min_subjects: int = MIN_SUBJECTS,
) -> SignFlipMap:
    """Test whether the mean over subjects is above 0, by changes of sign.

    Of up to 12 subjects all patterns are computed; of more, `n_draws` are drawn, so that
    p = (b + 1) / (n_draws + 1).

    Parameters
    ----------
    differences : ndarray of shape (n_subjects, n_voxels)
        Finite.
    enhance : callable
        Returns the TFCE of a map, (n_voxels,), such as that of `harness.inference.tfce.compute_tfce`.
    seed : int
        Of the draws.

    Raises
    ------
    DesignError
        For fewer than `min_subjects`, or differences that are not finite.
    """
    d = np.asarray(differences, dtype=np.float64)
    n, n_voxels = d.shape
    if n < min_subjects:
        raise DesignError(f"no test by changes of sign: {refuse_few(n)}")
    if not np.isfinite(d).all():
        raise DesignError("the scores of a subject are not defined in all voxels; leave these voxels out")
    lengths = np.sqrt((d**2).sum(axis=0))
    varies = lengths > TOLERANCE
    unit = np.where(varies, d / np.where(varies, lengths, 1.0), 0.0)
    signs, is_exact = _list_signs(n, n_draws, seed)
    observed = unit.sum(axis=0)
    enhanced = enhance(observed)
    counts = np.zeros(n_voxels, dtype=np.int64)
    maxima, of_tfce = np.empty(len(signs)), np.empty(len(signs))
    n_together = max(CHUNK_NUMBERS // max(n_voxels, 1), 1)
    for start in range(0, len(signs), n_together):
        rows = slice(start, start + n_together)
        values = signs[rows] @ unit
        counts += (values >= observed - TOLERANCE).sum(axis=0)
        maxima[rows] = values.max(axis=1)
        of_tfce[rows] = [enhance(row).max() for row in values]
    tolerance = 1e-9 * float(of_tfce.max(initial=0.0))  # of sums in another order
    return SignFlipMap(
        n=n,
        z=observed,
        p=np.where(varies, counts / len(signs), 1.0),
        p_fwe=np.where(varies, share_reaching(maxima, observed, TOLERANCE), 1.0),
        tfce=enhanced,
        p_tfce=np.where(enhanced > 0, share_reaching(of_tfce, enhanced, tolerance), 1.0),
        threshold_tfce=threshold_of_maxima(of_tfce),
        n_patterns=len(signs),
        is_exact=is_exact,
    )


def _list_signs(n: int, n_draws: int, seed: int) -> tuple[Array, bool]:
    """Return patterns of signs, (n_patterns, n), the true one first, and whether they are all."""
    if n <= MAX_ENUMERATED:
        bits = (np.arange(2**n)[:, np.newaxis] >> np.arange(n)) & 1
        return np.where(bits, -1.0, 1.0), True
    drawn = np.random.default_rng(seed).integers(2, size=(n_draws, n)) * 2.0 - 1.0
    return np.vstack([np.ones(n), drawn]), False
