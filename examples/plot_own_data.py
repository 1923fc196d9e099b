"""
Your own data
=============

What a decoding needs is one image with all volumes (or one image per scanner run), a table that gives the
condition and the scanner run of every volume, and a mask. Here all of them are made from arrays, to show
what they contain; with measured data, give the paths of your own files.
"""

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from sklearn.model_selection import LeaveOneGroupOut

from harness import (
    Estimator,
    ExactLinearSVC,
    Nifti,
    Question,
    Roi,
    Scheme,
    decode,
    make_contrast,
)

# %%
# **The labels.** Six scanner runs; in each, two blocks of eight volumes with words and two with pictures,
# with four volumes of rest before each block.

rng = np.random.default_rng(0)
rows = []
for run in range(1, 7):
    for condition in rng.permutation(["word", "picture", "word", "picture"]):
        rows += [("rest", run)] * 4 + [(condition, run)] * 8
labels = pd.DataFrame(rows, columns=["condition", "run"])
print(labels.head(6))

# %%
# **The images**: an array of shape (x, y, z, volumes). Noise, to which a cube of 4 x 4 x 4 voxels adds 25
# while words are shown. According to the affine, voxels have a size of 3 mm.

volumes = rng.normal(1000, 40, (16, 16, 10, len(labels)))
volumes[6:10, 6:10, 3:7] += 25 * (labels["condition"] == "word").to_numpy()
affine = nib.affines.from_matvec(np.diag([3.0, 3.0, 3.0]), [-24, -24, -15])

directory = Path(tempfile.mkdtemp())
bold = nib.Nifti1Image(volumes.astype(np.float32), affine)
mask = nib.Nifti1Image(np.ones(volumes.shape[:3], np.uint8), affine)
nib.save(bold, directory / "bold.nii.gz")
nib.save(mask, directory / "mask.nii.gz")
labels.to_csv(directory / "labels.tsv", sep="\t", index=False)

# %%
# **The decoding.** Paths may contain ``{subject}``. The names in ``masks`` are those that ``Roi`` takes.

dataset = Nifti(
    bold=directory / "bold.nii.gz",
    labels=directory / "labels.tsv",
    masks={"box": directory / "mask.nii.gz"},
    t_r=2.0,
)
question = Question(
    make_contrast(["word", "picture"]),
    Estimator("svc", ExactLinearSVC(), {"C": [0.001, 0.01, 0.1]}),
    Scheme("logo", LeaveOneGroupOut()),
    roi=Roi("box"),
)
decoding = decode(dataset.load(1), question)
print(decoding.summarise())

# %%
# Rows of the confusion matrix are the conditions that were shown, columns those that were predicted:

classes = list(question.contrast.classes)
print(pd.DataFrame(decoding.confusion, index=classes, columns=classes))

# %%
# The weights find the cube, outlined in black, in which words and pictures differ:

import matplotlib.pyplot as plt
from nilearn.plotting import plot_img

cube = np.zeros(volumes.shape[:3], np.uint8)
cube[6:10, 6:10, 3:7] = 1
display = plot_img(
    decoding.weights[0].mean,
    cmap="RdBu_r",
    colorbar=True,
    cut_coords=(0, 0, 0),
    title="weights, word against picture",
)
display.add_contours(nib.Nifti1Image(cube, affine), levels=[0.5], colors="black")
plt.show()

import shutil

shutil.rmtree(directory)
