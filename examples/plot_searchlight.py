"""
Searchlight
===========

Where is the information? A sphere around every voxel of a region is decoded by itself, and its score is
written into the voxel in the centre. The p-values are corrected over voxels by the maximum statistic: under
every relabelling of the stimulation blocks the whole map is computed again, and its largest value is kept.
"""

import numpy as np
from sklearn.model_selection import LeaveOneGroupOut

from harness import (
    Estimator,
    ExactRidgeClassifierCV,
    PermutationSettings,
    Question,
    Roi,
    Scheme,
    Searchlight,
    Simulated,
    make_contrast,
    map_searchlight,
)

question = Question(
    make_contrast(["face", "cat"]),
    Estimator("ridge_fixed", ExactRidgeClassifierCV([10.0])),
    Scheme("logo", LeaveOneGroupOut()),
    roi=Roi("vt"),
)
settings = Searchlight(radius=8.0, scorer="accuracy")
permutation = PermutationSettings(limit=100, n=199)
result = map_searchlight(Simulated().load(2), question, settings, permutation)
p = result.test.corrected["maximum"].p
print(f"{len(p)} spheres, {np.sum(p <= 0.05)} with p <= .05 after correction")

# %%
# The centres are the voxels of ventral temporal cortex (``Roi("vt")``); ``Roi("brain")`` maps the whole
# brain. This example draws 199 random relabellings to save time; ``PermutationSettings()`` computes all
# 2048 of this design.
#
# The accuracy in every centre:

import matplotlib.pyplot as plt
from nilearn.plotting import plot_stat_map

anatomy = str(result.recording.anat)
accuracy = result.to_image(result.score_map)
style = {"threshold": 0.5, "vmin": 0.5, "vmax": 1, "cmap": "inferno"}
cuts = {"display_mode": "z", "cut_coords": 4}
plot_stat_map(accuracy, anatomy, title="accuracy", **style, **cuts)
plt.show()

# %%
# The same, in the centres with a corrected p-value of at most .05. A significant centre means that there is
# information somewhere within the radius of 8 mm, not necessarily in that voxel.

significant = result.to_image(np.where(p <= 0.05, result.score_map, 0))
plot_stat_map(significant, anatomy, title="accuracy, p <= .05 corrected", **style, **cuts)
plt.show()
