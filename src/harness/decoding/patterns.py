"""Activation patterns: which voxels covary with the output of a decoder.

A weight says how a voxel is used, not what it shows: a voxel without any effect of the classes has a large
weight if it cancels the noise of another (a suppressor). The pattern of such a voxel is zero.

References
----------
Haufe et al. (2014), On the interpretation of weight vectors of linear models in multivariate neuroimaging,
NeuroImage 87, 96-110, equation 6.
"""

from dataclasses import dataclass

import nibabel as nib
import numpy as np

from harness.decoding.decoder import FittedDecoder
from harness.decoding.weights import list_problems, unmask
from harness.samples.samples import FoldPreprocessing, RecordedSamples
from harness.samples.signal import zscore


@dataclass(frozen=True, eq=False)
class PatternMap:
    """Activation pattern of one decoding problem, in the space of the mask.

    Attributes
    ----------
    name : str
        As that of the weights, for example ``face_vs_cat``.
    positive, negative : str
        Positive voxels are higher when the decoder's output favours the first of these, negative ones when it
        favours the second.
    image : Nifti1Image of shape (x, y, z)
        Standard deviations of the voxel per unit of the decoder's output, 0 outside the mask.
    """

    name: str
    positive: str
    negative: str
    image: nib.Nifti1Image


def map_patterns(decoder: FittedDecoder, samples: RecordedSamples) -> list[PatternMap]:
    """Turn a decoder into images of its activation patterns, from all samples.

    Returns
    -------
    maps : list of PatternMap
        One for two classes, one per class for more; empty for a dummy, which has no weights.
    """
    if decoder.coef is None:
        return []
    patterns = compute_patterns(standardise_samples(samples.X, samples.preparation), decoder.coef)
    return [
        PatternMap(
            name=problem.name,
            positive=problem.positive,
            negative=problem.negative,
            image=unmask(
                problem.sign * patterns[problem.row],
                samples.grid,
                f"pattern, covaries with the output for {problem.positive}",
            ),
        )
        for problem in list_problems(decoder.classes, samples.contrast)
    ]


def standardise_samples(X: np.ndarray, preparation: FoldPreprocessing) -> np.ndarray:
    """Return samples in the units of a decoder that was averaged over folds, as float64.

    It standardises by all samples, also where each fold was standardised by its own training volumes.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
    """
    return (X if preparation.zscore is None else zscore(X)).astype(np.float64)


def compute_patterns(X: np.ndarray, coef: np.ndarray) -> np.ndarray:
    """Compute the activation pattern of every problem.

    a_k = Cov(X) w_k / Var(s_k) = Cov(x, s_k) / Var(s_k),    s_k = X w_k

    Of several problems each has a pattern of its own. The joint patterns Cov(X) W Cov(S)^-1 are not used: the
    outputs of decoders of one class against the rest sum to nearly the same value in every sample, so that
    Cov(S) is close to singular, and its inverse adds to all patterns the voxels' covariance with that sum. On
    the eight categories of Haxby's subject 1 the joint patterns of two classes correlate, on average, at .92
    (svc), .83 (logistic) and .9996 (lda); those computed here at -.02, -.02 and -.13.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_voxels)
        In the units of the decoder; see `standardise_samples`.
    coef : ndarray of shape (n_problems, n_voxels)

    Returns
    -------
    patterns : ndarray of shape (n_problems, n_voxels)
        0 for a decoder without any weight, whose output is constant.
    """
    outputs = X @ coef.T
    outputs -= outputs.mean(axis=0)
    squares = (outputs**2).sum(axis=0)
    # The sum of centred outputs is 0, so X need not be centred.
    return np.divide(
        outputs.T @ X, squares[:, np.newaxis], out=np.zeros(coef.shape), where=squares[:, np.newaxis] > 0
    )
