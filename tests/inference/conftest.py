"""Designs without files: the blocks of every scanner run as letters."""

import json
from itertools import count

import numpy as np
import pytest

from harness.decoding.decode import Decoding
from harness.decoding.decoder import fit_decoder
from harness.decoding.evaluation import evaluate
from harness.samples.contrasts import make_contrast
from harness.samples.samples import FoldPreprocessing, Samples, load_samples
from services import require_data


@pytest.fixture(scope="session")
def make_design():
    """Return a function from the blocks of every scanner run, a letter each, to samples of noise.

    `lengths` gives the volumes of a block, by its letter, by scanner run and place, or for all; `rest` is
    the number of volumes between two blocks; `members` assigns letters to classes.
    """

    def make(runs, lengths=2, rest=6, members=None, n_voxels=3, seed=0, preparation=None):
        conditions, blocks, volumes, of_run = [], [], [], []
        volume, numbers = 0, count()
        for run, letters in enumerate(runs):
            for place, letter in enumerate(letters):
                length = lengths
                if isinstance(lengths, dict):
                    length = lengths[letter]
                elif not isinstance(lengths, int):
                    length = lengths[run][place]
                volume += rest
                conditions += [letter] * length
                blocks += [next(numbers)] * length
                volumes += range(volume, volume + length)
                of_run += [run] * length
                volume += length
        present = sorted(set(conditions))
        contrast = make_contrast([{name: group} for name, group in (members or {}).items()] or present)
        class_of = {name: label for label, group in contrast.members.items() for name in group}
        X = np.random.default_rng(seed).standard_normal((len(conditions), n_voxels))
        return Samples(
            X=X.astype(np.float32),
            y=np.array([class_of[name] for name in conditions]),
            runs=np.array(of_run),
            conditions=np.array(conditions),
            volumes=np.array(volumes),
            blocks=np.array(blocks),
            contrast=contrast,
            preparation=preparation or FoldPreprocessing(),
        )

    return make


@pytest.fixture(scope="session")
def statistics(shared_data):
    """Reference values of statistics, each computed by two independent programs."""
    file = shared_data.parent / "golden" / "statistics.json"
    require_data(file)
    return json.loads(file.read_text())


@pytest.fixture(scope="session")
def decode_plain():
    """Return a function from samples and a question to their decoding, without files."""

    def decode(samples, question, fit=fit_decoder):
        found = evaluate(samples, question.estimator, question.scheme, question.scoring, fit)
        return Decoding(
            recording=None,
            question=question,
            samples=samples,
            decoder=found.selected,
            folds=found.folds,
            skipped=found.skipped,
            predictions=found.predictions,
            train_accuracy=found.train_accuracy,
            confusion=np.zeros((2, 2)),
            weights=[],
            patterns=[],
            seconds={},
            warnings=(),
        )

    return decode


@pytest.fixture(scope="session")
def load_real(compose, shared_data):
    """Return a function to samples of ventral temporal cortex and the question, inner folds by run."""

    def load(estimator, zscore="own", contrast="[face,cat]"):
        spec = compose(
            "dataset=haxby",
            f"dataset.data_dir={shared_data / 'haxby2001-vt'}",
            "subject=1",
            f"contrast.conditions={contrast}",
            f"estimator={estimator}",
            f"signal.zscore={zscore}",
            "scoring.inner=runs",
        )
        question = spec.question
        recording = spec.dataset.load(1)
        return load_samples(recording, question.contrast, question.roi, question.signal), question

    return load
