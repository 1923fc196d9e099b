"""
Permutation test
================

Could a score be due to chance? The complete analysis is repeated with other labels: the labels of whole
stimulation blocks are exchanged inside scanner runs, so that the autocorrelation and the drifts of the data
stay as they are. The p-value is the share of labellings, the true one included, that score at least as high
as the true labels.
"""

from sklearn.model_selection import LeaveOneGroupOut

from harness import (
    Estimator,
    ExactRidgeClassifierCV,
    PermutationSettings,
    Question,
    Scheme,
    Scoring,
    Simulated,
    decode,
    make_contrast,
    run_permutation_test,
)

question = Question(
    make_contrast(["face", "cat"]),
    Estimator("ridge", ExactRidgeClassifierCV([1.0, 10.0, 100.0])),
    Scheme("logo", LeaveOneGroupOut()),
    scoring=Scoring(inner="runs"),
)
decoding = decode(Simulated().load(2), question)
test = run_permutation_test(decoding.samples, question, PermutationSettings(limit=100, n=199))
print(test.statement)

# %%
# Face against cat has one block of each class in each of 12 scanner runs: 2048 distinct relabellings. This
# example computes 199 random ones to save time; by default all of them are computed
# (``PermutationSettings()``). ``test.scores`` has one row per labelling, the true one first:

print(test.scores.head())

# %%
# The observed score, the mean of the null distribution and its 95th percentile:

import matplotlib.pyplot as plt

score = test.primary
mean, percentile = test.band(score)
figure, axes = plt.subplots(figsize=(7.5, 3.5), layout="constrained")
axes.hist(test.scores[score].iloc[1:], bins=30, color="0.75", label="relabelled")
axes.axvline(mean, color="0.3", linestyle=":", label=f"mean {mean:.2f}")
axes.axvline(percentile, color="0.3", linestyle="--", label=f"95th percentile {percentile:.2f}")
axes.axvline(test.observed[score], color="C3", label=f"true labels {test.observed[score]:.2f}")
axes.set(xlabel="area under the ROC curve, mean over folds", ylabel="labellings")
figure.legend(loc="outside right upper")  # a legend in the axes would cover bars
plt.show()

# %%
# A small p-value means that the volumes contain information about the classes. It measures neither the size
# of the effect nor whether other people show it.
