"""What a run infers in all: scores, patterns, stability, and why maps are left out."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.model_selection import LeaveOneGroupOut

from harness.datasets.haxby import Haxby
from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import Scoring
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.inference.run_inference import run_inference
from harness.inference.settings import PermutationSettings
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi, load_samples
from harness.samples.signal import Signal
from harness.solvers.estimators import ExactRidgeClassifierCV

SETTINGS = PermutationSettings()
VOXEL = (1, 2, 2)
ROWS = ("X", "y", "runs", "conditions", "volumes", "blocks")


@pytest.fixture(scope="module")
def load(tiny_subject):
    """Load samples of a recording with six scanner runs, and the question about them."""
    data = tiny_subject(n_runs=6, planted={"face": VOXEL}, effect=60)

    def load(*conditions):
        contrast = make_contrast(list(conditions))
        samples = load_samples(Haxby(data).load(1), contrast, Roi("vt", 100), Signal())
        ridge = Estimator("ridge", ExactRidgeClassifierCV([1.0]))
        scoring = Scoring(report=("accuracy", "roc_auc"), inner="runs")
        return samples, Question(contrast, ridge, Scheme("logo", LeaveOneGroupOut()), scoring=scoring)

    return load


def test_planted_voxel_has_the_largest_z_with_the_sign_of_the_first_class(load):
    for conditions, sign in ((("face", "cat"), 1), (("cat", "face"), -1)):
        samples, question = load(*conditions)
        found = run_inference(samples, question, SETTINGS)
        (pattern,) = found.patterns
        z, p_fwe = (np.asarray(image.dataobj) for image in (pattern.z, pattern.p_fwe))
        assert np.unravel_index(np.abs(z).argmax(), z.shape) == VOXEL
        assert np.sign(z[VOXEL]) == sign
        assert p_fwe[VOXEL] == p_fwe.min()
        assert found.stability is not None
        assert len(found.stability.weights) == len(found.test.relabellings) == 32
        assert len(found.describe_maps()) == 2


def test_maps_are_left_out_on_request_and_in_sequential_tests(load):
    samples, question = load("face", "cat")
    found = run_inference(samples, question, replace(SETTINGS, maps=False))
    assert (found.patterns, found.stability, found.notices) == ((), None, ())
    found = run_inference(samples, question, replace(SETTINGS, stop_early=True))
    assert (found.patterns, found.stability) == ((), None)
    assert "stop_early" in found.notices[0]


def test_stability_is_left_out_where_halves_are_too_small(load):
    samples, question = load("face", "cat")
    few = replace(samples, **{name: getattr(samples, name)[samples.runs < 3] for name in ROWS})
    found = run_inference(few, question, replace(SETTINGS, force=True))
    assert found.stability is None
    assert len(found.patterns) == 1
    assert "scanner runs" in found.notices[0]
