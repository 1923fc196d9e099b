"""The design test: planted properties of designs are found, their near misses and random designs are not."""

from fractions import Fraction
from itertools import permutations, product
from math import comb

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, LeaveOneGroupOut, StratifiedKFold
from sklearn.svm import LinearSVC

from harness.decoding.estimator import Estimator
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.errors import DesignError, UsageError
from harness.inference.design_decoder import DesignDecoder
from harness.inference.design_test import compute_two_sided_p, run_design_test
from harness.samples.block_table import tabulate_blocks
from harness.samples.signal import Signal
from harness.solvers.estimators import ExactLDA, ExactLinearSVC, ExactRidgeClassifierCV

SVC = Estimator("svc", ExactLinearSVC(), {"C": [1.0, 10.0]})
LDA = Estimator("lda", ExactLDA())


def ask(samples, estimator=SVC, splitter=None, zscore="train"):
    scheme = Scheme("tested", splitter or LeaveOneGroupOut())
    return Question(samples.contrast, estimator, scheme, signal=Signal(zscore=zscore))


def order_of(samples):
    """Return the place of every block in its scanner run."""
    table = tabulate_blocks(samples)
    places = np.concatenate([np.arange(n) for n in np.bincount(table.runs)])
    return places[table.of_sample][:, np.newaxis].astype(float)


def check_order(samples, **options):
    (row,) = run_design_test(samples, {"order": order_of(samples)}, ask(samples, **options)).table.to_dict(
        "records"
    )
    return row


def two_orders(k, n_runs):
    """Return scanner runs of which `k` show A first."""
    return ["AB"] * k + ["BA"] * (n_runs - k)


def majority_rule(firsts):
    """Return the accuracy of predicting the order of the majority of the other scanner runs."""
    right = []
    for place, first in enumerate(firsts):
        others = firsts[:place] + firsts[place + 1 :]
        votes = others.count(first) - (len(others) - others.count(first))
        right.append(Fraction(1, 2) if votes == 0 else Fraction(int(votes > 0)))
    return sum(right) / len(right)


@pytest.mark.parametrize("k", [4, 5, 6, 7, 8])
@pytest.mark.parametrize("zscore", ["own", "train", "run", "none"])
def test_the_order_alone_has_the_accuracy_of_the_majority_rule(make_design, k, zscore):
    runs = two_orders(k, 8)
    found = check_order(make_design(runs), zscore=zscore)
    assert found["accuracy"] == pytest.approx(float(majority_rule([run[0] for run in runs])), abs=1e-12)


@pytest.mark.parametrize("k", [4, 5, 6, 8])
def test_the_p_value_of_the_order_is_that_of_all_orders(make_design, k):
    n_runs = 8
    table = {n: (comb(n_runs, n), majority_rule(["A"] * n + ["B"] * (n_runs - n))) for n in range(n_runs + 1)}
    accuracies = [accuracy for count, accuracy in table.values() for _ in range(count)]
    extremeness = [
        min(sum(other >= accuracy for other in accuracies), sum(other <= accuracy for other in accuracies))
        for accuracy in accuracies
    ]
    true = table[k][1]
    extreme = extremeness[accuracies.index(true)]
    expected = sum(found <= extreme for found in extremeness) / len(accuracies)
    found = check_order(make_design(two_orders(k, n_runs)), estimator=LDA)
    assert found["accuracy"] == pytest.approx(float(true), abs=1e-12)
    assert found["p"] == found["p_corrected"] == pytest.approx(expected, abs=1e-12)


def test_haxby_shows_face_and_cat_in_an_order_that_predicts_them(load_golden):
    question, samples = load_golden("slice98", ("face", "cat"), "svc")
    table = tabulate_blocks(samples)
    firsts = [table.classes[table.runs == run][0] for run in np.unique(table.runs)]
    assert firsts.count("face") == 9
    assert majority_rule(firsts) == Fraction(3, 4)
    folds = DesignDecoder.of(samples, question)
    codes = (samples.y == np.unique(samples.y)[1]).astype(int)[np.newaxis]
    accuracies, area = folds.score(order_of(samples), codes)
    assert accuracies.tolist() == [0.75]
    assert area == 0.75


@pytest.mark.slow
def test_the_order_of_face_and_cat_has_the_p_value_of_598_in_4096_orders(load_golden):
    question, samples = load_golden("slice98", ("face", "cat"), "ridge")
    result = run_design_test(samples, {"order": order_of(samples)}, question)
    assert (result.n_relabellings, result.is_enumerated) == (2048, True)
    assert result.table["accuracy"][0] == 0.75
    # At least 9, or at most 3, of 12. An accuracy of 0 (6 of 12) has 924 and is less extreme.
    assert result.table["p"][0] == 2 * (220 + 66 + 12 + 1) / 4096


def test_a_class_that_always_comes_first_is_found_and_a_near_miss_is_not(make_design):
    assert check_order(make_design(two_orders(8, 8)))["p_corrected"] == 1 / 2**7
    assert check_order(make_design(two_orders(5, 8)))["p_corrected"] > 0.3


def test_discriminant_analysis_finds_a_variable_without_variation_inside_classes(make_design):
    samples = make_design(two_orders(6, 6))
    result = run_design_test(samples, {"order": order_of(samples)}, ask(samples, LDA))
    assert result.table["accuracy"][0] == 1
    assert "ridge" in result.notices[0]
    assert run_design_test(samples, {"order": order_of(samples)}, ask(samples)).notices == ()


def test_a_counterbalanced_sequence_predicts_the_opposite(make_design):
    # Within every scanner run both classes have the same mean place, in opposite sequences.
    samples = make_design(["ABAB", "BABA"] * 3)
    places = np.eye(4)[order_of(samples)[:, 0].astype(int)]
    (row,) = run_design_test(samples, {"order": places}, ask(samples, LDA), n=99).table.to_dict("records")
    assert row["accuracy"] == 0
    assert row["p_corrected"] <= 0.05


@pytest.mark.parametrize(("short", "found"), [(2, True), (4, False)])
def test_block_lengths_tied_to_class_are_found(make_design, short, found):
    runs = two_orders(4, 8)
    if found:
        samples = make_design(runs, lengths={"A": 4, "B": short})
    else:  # the same lengths, whatever the class
        samples = make_design(runs, lengths=[(4, 3) if run % 2 else (3, 4) for run in range(8)])
    table = tabulate_blocks(samples)
    length = table.n_volumes[table.of_sample][:, np.newaxis].astype(float)
    (row,) = run_design_test(samples, {"length": length}, ask(samples)).table.to_dict("records")
    assert (row["p_corrected"] <= 0.05) == found
    assert (row["accuracy"] == 1) == found


@pytest.mark.parametrize(("shift", "found"), [(3.0, True), (0.0, False)])
def test_motion_that_follows_the_class_is_found(make_design, rng, shift, found):
    samples = make_design(["AB", "BA"] * 4, lengths=4)
    motion = rng.normal(size=(len(samples.y), 6)) + shift * (samples.y == "A")[:, np.newaxis]
    variables = {"motion": motion, "order": order_of(samples), "noise": rng.normal(size=(len(motion), 1))}
    table = run_design_test(samples, variables, ask(samples, LDA, zscore="own")).table.set_index("variable")
    assert (table.loc["motion", "p_corrected"] <= 0.05) == found
    assert (table.loc[["order", "noise"], "p_corrected"] > 0.05).all()


def test_a_predecessor_that_determines_the_class_is_found(make_design, rng):
    samples = make_design(["AB", "BA"] * 4)
    tied = (samples.y == "A").astype(float)
    mixed = rng.permutation(tied)
    variables = {"tied": np.column_stack([tied, 1 - tied]), "mixed": np.column_stack([mixed, 1 - mixed])}
    table = run_design_test(samples, variables, ask(samples, LDA, zscore="own")).table.set_index("variable")
    assert table.loc["tied", "accuracy"] == table.loc["tied", "roc_auc"] == 1
    assert table.loc["tied", "p_corrected"] <= 0.05 < table.loc["mixed", "p_corrected"]


def reference_scores(values, y, folds):
    """Return mean accuracy and area of scikit-learn's own ridge classifier."""
    accuracies, areas = [], []
    for train, test in folds:
        location, scale = values[train].mean(axis=0), values[train].std(axis=0, ddof=1)
        Z = (values - location) / scale
        model = RidgeClassifier(alpha=2.0).fit(Z[train], y[train])
        accuracies.append(np.mean(model.predict(Z[test]) == y[test]))
        areas.append(roc_auc_score(y[test], model.decision_function(Z[test])))
    return np.mean(accuracies), np.mean(areas)


@pytest.mark.parametrize("splitter", [KFold(4), StratifiedKFold(4)], ids=["kfold", "stratified"])
def test_scores_under_relabelling_are_those_of_scikit_learn(make_design, rng, splitter):
    samples = make_design(["AB", "BA", "AB", "BA"], lengths=3)
    values = rng.normal(size=(len(samples.y), 2))
    true = (samples.y == "B").astype(int)
    rows = np.array([true, 1 - true, np.concatenate([1 - true[:12], true[12:]])])
    estimator = Estimator("ridge", ExactRidgeClassifierCV(alphas=[2.0]))
    decoder = DesignDecoder.of(samples, ask(samples, estimator, splitter))
    accuracies, area = decoder.score(values, rows)
    for place, row in enumerate(rows):
        y = np.array(["A", "B"])[row]
        accuracy, expected_area = reference_scores(values, y, list(splitter.split(values, y)))
        assert accuracies[place] == pytest.approx(accuracy, abs=1e-12)
        if place == 0:
            assert area == pytest.approx(expected_area, abs=1e-12)


def test_folds_of_stratified_schemes_depend_on_the_classes(make_design):
    samples = make_design(["AB", "AB", "BA"], lengths=[(3, 2), (2, 4), (2, 3)])
    true = (samples.y == "B").astype(int)
    rows = np.array([true, np.roll(true, 2)])
    for splitter, expected in ((KFold(3), False), (StratifiedKFold(3), True)):
        assert DesignDecoder.of(samples, ask(samples, splitter=splitter)).depends_on_classes(rows) == expected


def test_estimators_without_an_exact_solver_have_the_same_scores(make_design, rng):
    samples = make_design(["AB", "BA"] * 3, lengths=3)
    values = rng.normal(size=(len(samples.y), 2))
    rows = np.array([samples.y == "B", np.roll(samples.y == "B", 3)]).astype(int)
    liblinear = Estimator("svc_liblinear", LinearSVC(tol=1e-8, max_iter=100_000), {"C": [0.1, 10.0]})
    for zscore in ("own", "train", "run"):
        results = []
        for estimator in (SVC, liblinear):
            decoder = DesignDecoder.of(samples, ask(samples, estimator, zscore=zscore))
            assert decoder.is_batched == (estimator is SVC)
            results.append(decoder.score(values, rows))
        np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-12)
        assert results[0][1] == pytest.approx(results[1][1], abs=1e-12)


def test_more_than_two_classes(make_design):
    # The first block is A, B, C, A, ... and the others follow in turn.
    samples = make_design(["ABC", "BCA", "CAB"] * 2)
    tied = np.unique(samples.y, return_inverse=True)[1]
    variables = {"tied": np.eye(3)[tied], "order": np.eye(3)[order_of(samples)[:, 0].astype(int)]}
    table = run_design_test(samples, variables, ask(samples, LDA), n=39).table.set_index("variable")
    assert table.loc["tied", "accuracy"] == 1
    assert table.loc["tied", "p_corrected"] <= 0.05
    assert table.loc["order", "accuracy"] == 0  # the held-out order is always the rarer one


def test_a_variable_without_variation_has_no_score(make_design):
    samples = make_design(["AB", "BA"] * 3)
    variables = {"constant": np.full((len(samples.y), 1), 9.0), "order": order_of(samples)}
    table = run_design_test(samples, variables, ask(samples)).table
    assert np.isnan(table.loc[0, ["accuracy", "roc_auc", "p", "p_corrected"]].astype(float)).all()
    assert table.loc[1, "p"] == table.loc[1, "p_corrected"]


def brute_force_p(null):
    n, n_variables = null.shape
    columns = null.T.tolist()
    tails = [
        [min(sum(t >= s for t in column), sum(t <= s for t in column)) for s in column] for column in columns
    ]
    lowest = [min(tails[v][g] for v in range(n_variables)) for g in range(n)]
    alone = [Fraction(sum(tail <= column[0] for tail in column), n) for column in tails]
    together = [Fraction(sum(tail <= column[0] for tail in lowest), n) for column in tails]
    return alone, together


def test_p_values_are_those_of_counting(rng):
    for n, n_variables in ((20, 1), (41, 4)):
        null = rng.integers(0, 7, (n, n_variables)) / 6
        expected = brute_force_p(null)
        noisy = null + rng.uniform(-1e-12, 1e-12, null.shape)  # sums in another order
        for found, counted in zip(compute_two_sided_p(noisy), expected, strict=True):
            np.testing.assert_allclose(found, [float(p) for p in counted], atol=1e-15)


@pytest.mark.slow
def test_random_relabellings_agree_with_all_of_them(make_design):
    samples = make_design(two_orders(5, 7))
    exact = run_design_test(samples, {"order": order_of(samples)}, ask(samples))
    sampled = run_design_test(samples, {"order": order_of(samples)}, ask(samples), n=499, limit=1)
    assert exact.is_enumerated and exact.n_relabellings == 2**6
    assert not sampled.is_enumerated and sampled.n_relabellings == 500
    p = exact.table["p"][0]
    assert abs(sampled.table["p"][0] - p) < 4 * np.sqrt(p * (1 - p) / 500)


def test_a_design_without_another_order_is_refused(make_design):
    for runs in (["AAA", "BBB", "AAA", "BBB"], ["AB"]):
        samples = make_design(runs, lengths=4)
        question = ask(samples, splitter=StratifiedKFold(2))
        with pytest.raises(DesignError, match="no other order of the classes"):
            run_design_test(samples, {"order": order_of(samples)}, question)


def test_a_dummy_and_a_scheme_that_does_not_fit_are_refused(make_design):
    samples = make_design(["AB", "BA"])
    dummy = Estimator("dummy", DummyClassifier(strategy="most_frequent"))
    with pytest.raises(UsageError, match="labels alone"):
        run_design_test(samples, {}, ask(samples, dummy))
    with pytest.raises(DesignError, match="cv=tested cannot split"):
        run_design_test(make_design(["ABAB"]), {}, ask(samples))


@pytest.mark.slow
def test_random_designs_give_findings_at_the_nominal_rate(make_design):
    n_designs, found = 40, 0
    for seed in range(n_designs):
        rng = np.random.default_rng([seed, 11])
        letters = ["".join(rng.permutation(list("AABB"))) for _ in range(8)]
        samples = make_design(letters, seed=seed)
        table = tabulate_blocks(samples)
        course = np.cumsum(rng.normal(size=(len(samples.y), 2)), axis=0)  # drifts, as motion does
        places = np.eye(4)[order_of(samples)[:, 0].astype(int)]
        predecessor = np.eye(3)[rng.integers(0, 3, len(table.runs))][table.of_sample]
        variables = {"order": places, "onset": order_of(samples), "motion": course, "before": predecessor}
        result = run_design_test(samples, variables, ask(samples, zscore="own"), n=199).table
        found += bool((result["p_corrected"] <= 0.05).any())
    assert found <= binom.ppf(0.999, n_designs, 0.05)


def test_relabellings_exchange_blocks_of_all_lengths_within_scanner_runs(make_design):
    samples = make_design(["AB", "BA"], lengths={"A": 3, "B": 1})
    result = run_design_test(samples, {"order": order_of(samples)}, ask(samples, LDA))
    # Two orders in each of two scanner runs; renaming the classes halves them.
    assert len(list(product(permutations("AB"), repeat=2))) // 2 == result.n_relabellings == 2
