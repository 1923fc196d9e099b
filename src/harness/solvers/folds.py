"""Stratified folds, without the milliseconds that scikit-learn's splitter takes to check its arguments."""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray


def stratified_fold_ids(y: ArrayLike, n_folds: int) -> NDArray[np.intp]:
    """Return the fold that holds each sample out, from 0, as ``StratifiedKFold(n_folds)`` assigns them.

    A nested cross-validation needs hundreds of them.

    Raises
    ------
    ValueError
        If no class has a sample for every fold. If only some have, a warning is issued.
    """
    _, firsts, codes, counts = np.unique(y, return_index=True, return_inverse=True, return_counts=True)
    if counts.max() < n_folds:
        raise ValueError(f"{n_folds} folds are more than the {counts.max()} samples of the largest class.")
    if counts.min() < n_folds:
        warnings.warn(
            f"The least populated class has {counts.min()} samples, fewer than the {n_folds} folds.",
            UserWarning,
            stacklevel=2,
        )
    # scikit-learn takes classes in the order in which they appear, and assigns the folds in turn.
    codes = np.argsort(np.argsort(firsts))[codes]
    by_class = np.argsort(codes, kind="stable")
    assigned = np.arange(len(codes)) % n_folds
    folds = np.empty(len(codes), dtype=np.intp)
    folds[by_class] = assigned[np.lexsort((assigned, codes[by_class]))]
    return folds
