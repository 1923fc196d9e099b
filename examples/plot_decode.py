"""
Decode in ten lines
===================

Can faces be told from cats by the volumes of ventral temporal cortex? A decoder is trained on eleven
scanner runs and predicts the volumes of the twelfth, once for every scanner run.
"""

from sklearn.model_selection import LeaveOneGroupOut

from harness import Estimator, ExactLinearSVC, Question, Scheme, Simulated, decode, make_contrast

question = Question(
    make_contrast(["face", "cat"]),
    Estimator("svc", ExactLinearSVC(), {"C": [1, 10, 100]}),
    Scheme("logo", LeaveOneGroupOut()),
)
decoding = decode(Simulated().load(2), question)
decoding.summarise()

# %%
# The table has mean and standard deviation over folds. ``test_*`` are the scores to report: the volumes
# that they are computed on took part in no choice. ``selected_*`` is what nilearn's ``cv_scores_``
# contains: C is chosen on the fold that is scored. One row per fold:

decoding.folds[["fold", "runs_held_out", "test_accuracy", "test_roc_auc", "best_C"]]

# %%
# Every decoding can be audited: what could make its score too high, or hard to interpret?

from harness import audit

for finding in audit(decoding):
    if finding.verdict != "ok":
        print(f"{finding.verdict}: {finding.rule}: {finding.evidence}\n")

# %%
# The weights are an image in the space of the mask. Positive weights are evidence for the first condition,
# face. They are not activation: a voxel can have a large weight because it cancels the noise of others.

import matplotlib.pyplot as plt
from nilearn.plotting import plot_stat_map

weights = decoding.weights[0].mean
plot_stat_map(
    weights,
    bg_img=str(decoding.recording.anat),
    title="weights, face against cat",
    cut_coords=4,
    display_mode="z",
)
plt.show()
