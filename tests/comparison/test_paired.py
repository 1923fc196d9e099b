"""Paired comparisons of stored runs, against brute force and closed forms."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from harness.comparison.paired import compare_by
from harness.errors import DesignError, UsageError

A, B, C = (0.5, 0.75, 1.0, 0.75), (0.5, 0.5, 0.75, 1.0), (0.25, 0.5, 0.5, 0.5)


def corrected_p(first, second, ratio):
    d = np.subtract(first, second)
    t = d.mean() / np.sqrt((1 / len(d) + ratio) * d.var(ddof=1))
    return 2 * stats.t.sf(abs(t), len(d) - 1)


def flip_p(differences):
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    return np.mean(np.array(sums) >= abs(sum(differences)) - 1e-12)


def test_folds_of_a_subject_are_compared_by_the_corrected_t_test_with_holms_correction(make_stored):
    runs = [make_stored(A, estimator="a"), make_stored(B, estimator="b"), make_stored(C, estimator="c")]
    (comparison,) = compare_by(runs, "estimator")
    p = [corrected_p(*pair, 2 / 6) for pair in ((A, B), (A, C), (B, C))]
    assert comparison.table[["first", "second"]].to_numpy().tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    np.testing.assert_allclose(comparison.table["p"], p, rtol=1e-12)
    rank = np.argsort(p)
    expected, highest = np.empty(3), 0.0
    for place, pair in enumerate(rank):
        highest = max(highest, min(1.0, (3 - place) * p[pair]))
        expected[pair] = highest
    np.testing.assert_allclose(comparison.table["p_holm"], expected, rtol=1e-12)
    np.testing.assert_allclose(comparison.table["difference"], [0.0625, 0.3125, 0.25])
    assert (comparison.unit, comparison.score) == ("fold", "test_accuracy")
    assert comparison.fixed["subject"] == "1"
    assert "n_test/n_train 0.333" in comparison.test
    assert comparison.correction == "Holm over the 3 pairs of this score"


def make_subjects(make_stored, first, second, **changed):
    runs = []
    for subject, pair in enumerate(zip(first, second, strict=True), start=1):
        for value, score in zip(("a", "b"), pair, strict=True):
            if score is not None:
                own = {"subject": str(subject), "estimator": value, "digests": {"bold": f"{subject:064d}"}}
                runs.append(make_stored((score, score, score - 0.125, score + 0.125), **own | changed))
    return runs


def test_subjects_are_compared_by_the_sign_flip_test_of_their_means(make_stored):
    first, second = (0.75, 0.8, 0.7, 0.85, 0.9, 0.65, 0.7), (0.7, 0.7, 0.72, 0.6, 0.8, 0.6, 0.55)
    (comparison,) = compare_by(make_subjects(make_stored, first, second), "estimator")
    assert comparison.unit == "subject"
    assert comparison.units["unit"].tolist() == list("1234567")
    d = np.subtract(first, second)
    (row,) = comparison.table.to_dict("records")
    assert row["n"] == 7
    assert row["p"] == row["p_holm"] == pytest.approx(flip_p(d))
    assert row["difference"] == pytest.approx(d.mean())
    means = sorted(
        np.mean(d[np.array(chosen, dtype=bool)]) for chosen in product((0, 1), repeat=7) if any(chosen)
    )
    assert (row["low"], row["high"]) == pytest.approx((means[2], means[-3]))  # int(.025 * 128) = 3
    assert "subject" not in comparison.fixed


def test_subjects_that_lack_a_value_are_left_out_with_a_note(make_stored):
    first, second = (0.75, 0.8, 0.7, 0.85, 0.9, 0.65, 0.7), (0.7, 0.7, 0.72, 0.6, 0.8, 0.6, None)
    (comparison,) = compare_by(make_subjects(make_stored, first, second), "estimator")
    assert comparison.table["n"].tolist() == [6]
    assert comparison.table["p"].tolist() == [pytest.approx(flip_p(np.subtract(first[:6], second[:6])))]
    assert "without estimator=b, and left out of these pairs: subject 7" in comparison.notes


def test_few_subjects_cannot_be_significant(make_stored):
    runs = make_subjects(make_stored, (0.9,) * 5, (0.6, 0.65, 0.7, 0.75, 0.8))
    (comparison,) = compare_by(runs, "estimator")
    (row,) = comparison.table.to_dict("records")
    assert np.isnan(row["p"])
    assert row["note"] == "cannot be significant with n = 5; 6 subjects or more can"


def test_subjects_with_the_same_images_are_refused(make_stored):
    runs = make_subjects(make_stored, (0.9, 0.8), (0.6, 0.65), digests={"bold": "b" * 64})
    with pytest.raises(DesignError, match="subjects 1 and 2 have the same images"):
        compare_by(runs, "estimator")


def test_a_leaky_scheme_has_differences_and_no_p_value(make_stored, leak):
    runs = [make_stored(A), make_stored(B, estimator="lda", findings=[leak])]
    (comparison,) = compare_by(runs, "estimator")
    assert comparison.test == "none"
    assert comparison.table["difference"].tolist() == [pytest.approx(-0.0625)]
    assert comparison.table[["p", "p_holm"]].isna().all(axis=None)
    assert "blocks_split of lda (00000001): 4 of 8 blocks" in comparison.refusal


def test_one_fold_is_refused(make_stored):
    runs = [make_stored((0.5,), cv="holdout30"), make_stored((0.75,), cv="holdout30", estimator="lda")]
    with pytest.raises(DesignError, match=r"cv=holdout30 has one fold.*cv=logo"):
        compare_by(runs, "estimator")


def test_schemes_are_compared_each_for_itself(make_stored):
    runs = [make_stored(cv=cv, estimator=name) for cv in ("logo", "other") for name in ("svc", "lda")]
    found = compare_by(runs, "estimator")
    assert [comparison.fixed["cv"] for comparison in found] == ["logo", "other"]
    assert [comparison.table["p"].tolist() for comparison in found] == [[1.0], [1.0]]


def test_differences_without_variation_have_no_test(make_stored):
    runs = [make_stored((0.5, 0.5, 0.75, 0.5)), make_stored((0.75, 0.75, 1.0, 0.75), estimator="lda")]
    (comparison,) = compare_by(runs, "estimator")
    (row,) = comparison.table.to_dict("records")
    assert np.isnan(row["p"])
    assert row["note"].startswith("no test: the scores differ by 0.25 in every one")


def test_undefined_folds_do_not_count(make_stored):
    runs = [make_stored((*A, None)), make_stored((*B, 1.0), estimator="lda")]
    (comparison,) = compare_by(runs, "estimator")
    (row,) = comparison.table.to_dict("records")
    assert (row["n"], row["note"]) == (4, "undefined in 1 of 5 folds")
    assert row["p"] == pytest.approx(corrected_p(A, B, 2 / 6))


def test_pairs_with_a_dummy_are_marked_as_tests_against_chance(make_stored):
    runs = [make_stored(A), make_stored(B, estimator="dummy")]
    assert "--chance" in compare_by(runs, "estimator")[0].table["note"].iloc[0]


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("selected_roc_auc", "selected scores .* choose a test score"),
        ("test_acuracy", "Did you mean 'test_accuracy'"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(make_stored, score, message):
    with pytest.raises(UsageError, match=message):
        compare_by([make_stored(), make_stored(estimator="lda")], "estimator", [score])


def test_many_values_are_refused(make_stored):
    runs = [make_stored(seed=str(seed)) for seed in range(31)]
    with pytest.raises(DesignError, match="31 values of seed make 465 pairs"):
        compare_by(runs, "seed")
