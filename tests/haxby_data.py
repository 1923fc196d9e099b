"""Real volumes of subject 1 for the solver tests, read from the shared data where they are present."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

HERE = Path(__file__).resolve()
DATA = Path(os.environ.get("HARNESS_TEST_DATA", HERE.parents[2] / "shared" / "data"))


def load_face_cat(name, mask):
    """Return z-scored X, y of -1 (cat) and +1 (face), and each volume's run; skip where data are absent."""
    folder = DATA / name / "haxby2001" / "subj1"
    mask_file = folder / mask
    if not mask_file.exists():
        pytest.skip(f"no {mask_file}: point HARNESS_TEST_DATA to a folder that holds {name}")
    table = np.loadtxt(folder / "labels.txt", dtype=str, skiprows=1)
    chosen = np.isin(table[:, 0], ("face", "cat"))
    inside = np.asarray(nibabel.load(mask_file).dataobj) > 0
    X = np.asarray(nibabel.load(folder / "bold.nii.gz").dataobj)[inside].T[chosen].astype(np.float64)
    X = (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)
    return X, np.where(table[chosen, 0] == "face", 1.0, -1.0), table[chosen, 1].astype(int)
