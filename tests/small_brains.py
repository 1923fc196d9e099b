"""Recordings without files for searchlights: samples on a small grid."""

import numpy as np
from sklearn.model_selection import LeaveOneGroupOut

from harness.decoding.estimator import Estimator
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.samples.blocks import find_blocks
from harness.samples.contrasts import make_contrast
from harness.samples.samples import FoldPreprocessing, RecordedSamples, VoxelGrid
from harness.solvers.estimators import ExactRidgeClassifierCV

CONTRAST = make_contrast(["A", "B"])
RIDGE = Estimator("ridge", ExactRidgeClassifierCV([1.0]))


def make_brain(shape=(4, 3, 3), orders=("AB", "BA", "AB", "BA", "BA", "AB"), block=3, seed=0, effect=0.0):
    """Return samples of two classes; `effect` separates them in the first voxels of every axis.

    Voxels are cubes of 3 mm, and every scanner run shows a block of both classes.
    """
    y = np.array([name for order in orders for name in order for _ in range(block)])
    runs = np.repeat(np.arange(len(orders)), 2 * block)
    volumes = np.arange(len(y)) + 6 * np.repeat(np.arange(2 * len(orders)), block)
    data = np.random.default_rng(seed).standard_normal((len(y), *shape))
    data[np.ix_(y == "A", range(2), range(2), range(2))] += effect
    return RecordedSamples(
        X=data.reshape(len(y), -1).astype(np.float32),
        y=y,
        runs=runs,
        conditions=y,
        volumes=volumes,
        blocks=find_blocks(y, runs),
        contrast=CONTRAST,
        preparation=FoldPreprocessing(),
        grid=VoxelGrid(np.ones(shape, dtype=bool), np.diag([3.0, 3, 3, 1]), np.zeros(shape, np.float32)),
        sources=None,
        image_digest="",
    )


def ask(estimator=RIDGE, splitter=None):
    """Return a question about the two classes, by default under leave-one-run-out."""
    return Question(CONTRAST, estimator, Scheme("logo", splitter or LeaveOneGroupOut()))
