"""
Decode in ten lines
===================

Can faces and cats be distinguished by the volumes of ventral temporal cortex? A decoder is trained on
eleven scanner runs and predicts the volumes of the twelfth, once for every scanner run.
"""

from sklearn.model_selection import LeaveOneGroupOut

from harness import (
    Estimator,
    ExactLinearSVC,
    Question,
    Scheme,
    Simulated,
    decode,
    make_contrast,
)

question = Question(
    make_contrast(["face", "cat"]),
    Estimator("svc", ExactLinearSVC(), {"C": [1, 10, 100]}),
    Scheme("logo", LeaveOneGroupOut()),
)
decoding = decode(Simulated().load(2), question)
print(decoding.summarise().round(3))

# %%
# The table has mean and standard deviation over folds. ``test_*`` are the scores to report: the volumes
# that they are computed on took part in no choice. ``selected_*`` is what nilearn's ``cv_scores_``
# contains: C is chosen on the fold that is scored. One row per fold:

print(decoding.folds[["fold", "runs_held_out", "test_accuracy", "test_roc_auc", "best_C"]].round(3))

# %%
# Every decoding can be audited: what could make its score too high, or hard to interpret?

from textwrap import fill

from harness import audit

for finding in audit(decoding):
    if finding.verdict != "ok":
        print(fill(f"{finding.verdict}: {finding.rule}: {finding.evidence}", 80), end="\n\n")

# %%
# The weights are an image in the space of the mask. Positive weights are evidence for the first condition,
# face. They are not activation: a voxel can have a large weight because it cancels the noise of others.

import matplotlib.pyplot as plt
from nilearn.plotting import plot_stat_map

weights = decoding.weights[0].mean
anatomy = str(decoding.recording.anat)
plot_stat_map(weights, anatomy, title="weights, face against cat", cut_coords=4, display_mode="z")
plt.show()
