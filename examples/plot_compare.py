"""
Compare two estimators
======================

Does a support vector machine distinguish faces from cats better than linear discriminant analysis? Both
decode the same volumes with the same folds, so that their scores can be compared fold by fold.
"""

from sklearn.model_selection import LeaveOneGroupOut

from harness import (
    Estimator,
    ExactLDA,
    ExactLinearSVC,
    Question,
    Scheme,
    Simulated,
    compare_decodings,
    decode,
    make_contrast,
)

recording = Simulated().load(3)
contrast = make_contrast(["face", "cat"])
scheme = Scheme("logo", LeaveOneGroupOut())
svc = Estimator("svc", ExactLinearSVC(), {"C": [1, 10, 100]})
lda = Estimator("lda", ExactLDA())
first = decode(recording, Question(contrast, svc, scheme))
second = decode(recording, Question(contrast, lda, scheme))
test = compare_decodings(first, second)
low, high = test.interval
print(f"svc - lda: {test.difference:+.3f}, 95 % interval [{low:+.3f}, {high:+.3f}]")
print(f"t({test.df}) = {test.t:.2f}, p = {test.p:.2f}")

# %%
# The folds share training volumes, so that a usual paired t-test rejects too often. The corrected resampled
# t-test (Nadeau and Bengio, 2003) adds the ratio of held-out to training volumes to the variance. It
# concerns other volumes of this subject; for a statement about people, compare the mean scores of several
# subjects.
#
# One line per fold:

import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
pairs = [first.folds["test_accuracy"], second.folds["test_accuracy"]]
means = [scores.mean() for scores in pairs]
axes.plot(["svc", "lda"], pairs, color="0.6", marker="o", markersize=4)
axes.plot(["svc", "lda"], means, color="C3", marker="o", linewidth=3, label="mean")
axes.axhline(0.5, color="0.3", linestyle=":", label="chance")
axes.set(ylabel="accuracy of a held-out scanner run", xlim=(-0.3, 1.3))
axes.legend()
plt.show()
