"""Two decodings compared over their folds."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import KFold, LeaveOneGroupOut
from sklearn.svm import LinearSVC

from harness import (
    Estimator,
    ExactLDA,
    ExactRidgeClassifierCV,
    Haxby,
    Question,
    Scheme,
    compare_decodings,
    decode,
    make_contrast,
)
from harness.errors import DesignError, UsageError

LOGO = Scheme("logo", LeaveOneGroupOut())
LDA = Estimator("lda", ExactLDA())
RIDGE = Estimator("ridge", ExactRidgeClassifierCV([10.0]))


@pytest.fixture(scope="module")
def recording(tiny_subject):
    return Haxby(tiny_subject(n_runs=6, planted={"face": (1, 1, 1)}, effect=25)).load(1)


@pytest.fixture(scope="module")
def ask(recording):
    """Return a function that decodes face against cat."""

    def decode_with(estimator, scheme=LOGO, conditions=("face", "cat")):
        return decode(recording, Question(make_contrast(list(conditions)), estimator, scheme))

    return decode_with


@pytest.fixture(scope="module")
def pair(ask):
    svc = Estimator("hinge", LinearSVC(random_state=0), {"C": [1.0]})
    return ask(svc), ask(RIDGE)


def test_the_difference_has_the_corrected_t_of_the_closed_form(pair):
    first, second = pair
    d = (first.folds["test_roc_auc"] - second.folds["test_roc_auc"]).to_numpy()
    assert np.ptp(d) > 0
    test = compare_decodings(first, second, "test_roc_auc")
    # 8 volumes of one of 6 scanner runs are held out, 40 are trained on.
    t = d.mean() / np.sqrt((1 / 6 + 8 / 40) * d.var(ddof=1))
    assert test.t == pytest.approx(t, abs=1e-12)
    assert test.p == pytest.approx(2 * stats.t.sf(abs(t), 5), abs=1e-12)
    swapped = compare_decodings(second, first, "test_roc_auc")
    assert (swapped.difference, swapped.p) == (-test.difference, test.p)


def test_a_decoding_does_not_differ_from_itself(pair):
    assert compare_decodings(pair[0], pair[0]).p == 1


@pytest.mark.parametrize("score", ["selected_roc_auc", "accuracy", "n_test"])
def test_only_test_scores_are_compared(pair, score):
    with pytest.raises(UsageError, match=f"'{score}'.*test_accuracy.*Selected scores are not compared"):
        compare_decodings(*pair, score)


def test_other_volumes_folds_and_images_are_refused(ask, pair):
    with pytest.raises(DesignError, match="not the same volumes"):
        compare_decodings(pair[0], ask(RIDGE, conditions=("face", "house")))
    with pytest.raises(DesignError, match="not the same volumes"):
        compare_decodings(pair[0], ask(RIDGE, Scheme("blocks", KFold(3))))
    other = replace(pair[1].recording, bold=pair[1].recording.bold.with_name("other.nii.gz"))
    with pytest.raises(DesignError, match=r"other images.*other\.nii\.gz"):
        compare_decodings(pair[0], replace(pair[1], recording=other))


def test_a_leaky_scheme_has_no_p_value(ask):
    leaky = Scheme("kfold5", KFold(5))
    with pytest.raises(DesignError, match="leak, so that the difference has no p-value: blocks_split of lda"):
        compare_decodings(ask(LDA, leaky), ask(RIDGE, leaky))
