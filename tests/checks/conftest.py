"""Recordings with a design of one's own."""

import nibabel as nib
import numpy as np
import pytest

from harness.datasets.haxby import Haxby
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi, load_samples
from harness.samples.signal import Signal


@pytest.fixture
def record_design(tmp_path):
    """Return a function from scanner runs, lists of (condition, volumes), to a recording of noise."""

    def record(runs, seed=3):
        rng = np.random.default_rng(seed)
        rows = [(name, run) for run, blocks in enumerate(runs) for name, n in blocks for _ in range(n)]
        home = tmp_path / "design" / "haxby2001" / "subj1"
        home.mkdir(parents=True, exist_ok=True)
        bold = rng.normal(1000, 20, (3, 3, 2, len(rows))).round().astype(np.int16)
        nib.save(nib.Nifti1Image(bold, np.eye(4)), home / "bold.nii.gz")
        nib.save(nib.Nifti1Image(np.ones((3, 3, 2), dtype=np.uint8), np.eye(4)), home / "mask4_vt.nii.gz")
        nib.save(nib.Nifti1Image(np.ones((3, 3, 2), dtype=np.uint8), np.eye(4)), home.parent / "mask.nii.gz")
        lines = ["labels chunks", *(f"{name} {run}" for name, run in rows)]
        (home / "labels.txt").write_text("\n".join(lines) + "\n")
        return Haxby(tmp_path / "design").load(1)

    return record


@pytest.fixture
def load_design():
    """Return a function from a recording to its samples of face and cat, and their signal options."""

    def load(recording, **signal):
        options = Signal(**signal)
        return load_samples(recording, make_contrast(["face", "cat"]), Roi(), options), options

    return load
