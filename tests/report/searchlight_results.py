"""Searchlight results written by hand, for tests of their files, figures and pages."""

import numpy as np
import pandas as pd
from sklearn.model_selection import LeaveOneGroupOut

from harness.datasets.haxby import read_subject
from harness.decoding.estimator import Estimator
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.inference.relabelling import plan_relabellings
from harness.inference.settings import PermutationSettings
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi, load_samples
from harness.samples.signal import Signal
from harness.searchlight.map_test import CorrectedMap, MapTest
from harness.searchlight.result import SearchlightResult
from harness.searchlight.settings import Searchlight
from harness.searchlight.spheres import Spheres
from harness.solvers.estimators import ExactRidgeClassifierCV

N_RELABELLINGS = 40


def make_result(data, scores=None, z=None, p_fwe=None, classes=("face", "cat"), option=None, **settings):
    """Return a searchlight over all voxels of a subject in Haxby's layout, whose maps are given.

    Parameters
    ----------
    scores : ndarray of shape (x, y, z)
        Of every voxel; NaN leaves a voxel out of the centres. By default random ones around .5.
    z, p_fwe : ndarray of shape (x, y, z), optional
        Make a test, in which every other p is 1/2.
    """
    recording = read_subject(data / "haxby2001", 1, dataset="haxby")
    question = Question(
        make_contrast(list(classes), option),
        Estimator("ridge", ExactRidgeClassifierCV()),
        Scheme("logo", LeaveOneGroupOut()),
        roi=Roi("brain"),
    )
    samples = load_samples(recording, question.contrast, question.roi, Signal())
    mask = samples.grid.mask
    if scores is None:
        scores = np.random.default_rng(1).normal(0.5, 0.05, mask.shape)
    centres = np.flatnonzero(np.isfinite(scores[mask]))
    values = scores[mask][centres]
    sizes = np.minimum(7 + np.arange(len(centres)) % 3, samples.n_voxels)
    spheres = Spheres(
        centres=centres,
        columns=np.concatenate([np.arange(size) for size in sizes]),
        starts=np.concatenate([[0], np.cumsum(sizes)]),
        n_small=2,
    )
    chosen = Searchlight(**{"radius": 8.0, "min_voxels": 3} | settings)
    return SearchlightResult(
        question=question,
        settings=chosen,
        samples=samples,
        spheres=spheres,
        scores={name: values for name in ("accuracy", "balanced_accuracy", "roc_auc")},
        test=None
        if z is None
        else _make_test(samples, spheres, chosen, z[mask][centres], p_fwe[mask][centres]),
        n_folds=4,
        skipped=pd.DataFrame(),
        seconds={"spheres": 0.1, "map": 1.0},
        warnings=(),
    )


def _make_test(samples, spheres, settings, z, p_fwe):
    names = list(dict.fromkeys(["maximum", settings.correction]))
    rng = np.random.default_rng(2)
    maxima = pd.DataFrame({name: rng.normal(3, 0.5, N_RELABELLINGS) for name in names})
    maxima.iloc[0] = z.max()
    return MapTest(
        statistic="roc_auc",
        z=z,
        p=np.where(z >= z.max(), 1 / N_RELABELLINGS, 0.5),
        null_mean=0.524 + np.where(z > 0, 0.01, 0),
        corrected={name: CorrectedMap(values=z, p=p_fwe, threshold=4.0) for name in names},
        maxima=maxima,
        relabellings=plan_relabellings(
            samples, PermutationSettings(n=N_RELABELLINGS - 1, limit=1, force=True)
        ),
        kept=np.tile(z, (3, 1)).astype(np.float32),
        kept_rows=np.array([0, 4, 9]),
        cautions=("a caution of the design",),
    )
