"""Designs of blocks without any image, for tests of the audit."""

import numpy as np
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.svm import LinearSVC

from harness.decoding.estimator import Estimator
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.samples.blocks import average_blocks, find_blocks
from harness.samples.contrasts import make_contrast
from harness.samples.samples import FoldPreprocessing, Samples
from harness.samples.signal import Signal

LOGO = Scheme("logo", LeaveOneGroupOut())
SVC = Estimator("svc", LinearSVC(), {"C": [1.0, 10.0, 100.0]})
LETTERS = {"A": "face", "B": "cat", "C": "house", ".": "rest"}


def make_design(*runs, contrast=None, n_voxels=3, screening=100, signal=None):
    """Return samples of runs that are written as one letter per volume: ``AAAA....BBBB``."""
    shown = np.array([LETTERS[letter] for run in runs for letter in run])
    numbers = np.concatenate([[number] * len(run) for number, run in enumerate(runs)])
    present = [name for name in ("face", "cat", "house") if name in shown]
    contrast = contrast or make_contrast(present)
    class_of = {member: name for name, members in contrast.members.items() for member in members}
    blocks = find_blocks(shown, numbers)
    chosen = np.flatnonzero(np.isin(shown, list(class_of)))
    X = np.random.default_rng(0).normal(size=(len(chosen), n_voxels)).astype(np.float32)
    if signal is not None and signal.average_blocks:
        X, first = average_blocks(X, blocks[chosen])
        chosen = chosen[first]
    return Samples(
        X=X,
        y=np.array([class_of[name] for name in shown[chosen].tolist()]),
        runs=numbers[chosen],
        conditions=shown[chosen],
        volumes=chosen,
        blocks=blocks[chosen],
        contrast=contrast,
        preparation=FoldPreprocessing("own", screening),
    )


def make_question(samples, scheme=LOGO, estimator=SVC, signal=None, **others):
    return Question(samples.contrast, estimator, scheme, signal=signal or Signal(), **others)


def find(findings, rule):
    """Return the finding of a rule."""
    (found,) = [finding for finding in findings if finding.rule == rule]
    return found
