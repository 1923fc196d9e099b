"""Scores against nilearn's own Decoder, and against what is known without any: chance, order, sides."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from nilearn.decoding import Decoder
from nilearn.image import index_img
from nilearn.maskers import NiftiMasker
from nilearn.signal import clean
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegressionCV, RidgeClassifier, RidgeClassifierCV
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import KFold, LeaveOneGroupOut, LeaveOneOut, PredefinedSplit, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from harness.datasets.haxby import read_subject
from harness.decoding.decode import decode
from harness.decoding.decoder import fit_decoder
from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import Scoring, evaluate
from harness.decoding.question import Question
from harness.decoding.splitters import HoldOutLast, Scheme, split_samples
from harness.errors import DesignError, UsageError
from harness.samples.contrasts import make_contrast
from harness.samples.samples import FoldPreprocessing, Roi, load_samples
from harness.samples.signal import Signal
from marks import first

LOGO = Scheme("logo", LeaveOneGroupOut())
TWO, THREE = ["face", "cat"], ["face", "cat", "house"]


def logistic(values):
    return LogisticRegressionCV(
        Cs=values,
        cv=5,
        solver="liblinear",
        l1_ratios=[0.0],
        scoring="neg_log_loss",
        use_legacy_attributes=False,
        random_state=0,
    )


SVC = Estimator("svc", LinearSVC(max_iter=10000, random_state=0), {"C": [1.0, 10.0, 100.0]})
SVC_L1 = Estimator(
    "svc_l1",
    LinearSVC(penalty="l1", dual=False, max_iter=10000, random_state=0),
    {"C": {"times_l1_min_c": [2, 20, 200]}},
)
RIDGE = Estimator("ridge", RidgeClassifierCV(alphas=np.geomspace(1e-3, 1e4, 8).tolist()))
LOGISTIC = Estimator(
    "logistic", logistic((0.5 * np.geomspace(2e-3, 2e4, 8)).tolist())
)  # nilearn's, to the bit
LDA = Estimator("lda", LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))
DUMMY = Estimator("dummy", DummyClassifier(strategy="stratified", random_state=0))
NILEARNS = [
    ("svc", SVC, "C"),
    ("svc_l1", SVC_L1, "C"),
    ("ridge_classifier", RIDGE, "best_alpha"),
    pytest.param("logistic", LOGISTIC, "best_C", marks=pytest.mark.slow),
    ("dummy_classifier", DUMMY, None),
]


def named(value):
    return getattr(value, "name", None)


@pytest.fixture(scope="module")
def recording(tiny_subject):
    # Weak enough that folds differ in their scores and in the C that they choose.
    data_dir = tiny_subject(planted={"face": (1, 2, 1), "cat": (0, 3, 3), "house": (2, 0, 0)}, effect=25)
    return read_subject(data_dir / "haxby2001", 1, dataset="haxby")


def fit_nilearn(recording, conditions, *, zscore="own", cv=None, grouped=True, roi="vt", **arguments):
    """Fit nilearn's Decoder as its users do: images in, nothing of ours on the way."""
    labels = recording.labels
    rows = np.flatnonzero(labels["condition"].isin(conditions))
    y, runs = labels["condition"].to_numpy(dtype=str)[rows], labels["run"].to_numpy()
    images, standardize = index_img(recording.bold, rows), "zscore_sample"
    if zscore == "run":
        masker = NiftiMasker(recording.masks[roi], standardize=None).fit()
        masked = masker.transform(recording.bold)
        by_run = [
            clean(masked[runs == run], detrend=False, standardize="zscore_sample", filter=False)
            for run in range(4)
        ]
        images, standardize = masker.inverse_transform(np.concatenate(by_run)[rows]), None
    decoder = Decoder(
        mask=recording.masks[roi],
        cv=cv or LeaveOneGroupOut(),
        scoring="roc_auc",
        standardize=standardize,
        **arguments,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoder.fit(images, y, groups=runs[rows] if grouped else None)
    return SimpleNamespace(decoder=decoder, images=images, y=y, rows=rows)


def problems(conditions):
    """The classes that nilearn decodes against the rest; for two classes the second in the alphabet."""
    return sorted(conditions) if len(conditions) > 2 else sorted(conditions)[1:]


# Selected scores against nilearn's Decoder on images --------------------------------------------------------


@pytest.mark.parametrize("zscore", ["own", pytest.param("run", marks=pytest.mark.slow)])
@pytest.mark.parametrize("conditions", [TWO, THREE], ids=len)
@pytest.mark.parametrize("string, estimator, parameter", first(2, NILEARNS), ids=named)
def test_selected_scores_parameters_and_weights_are_nilearns(
    recording, string, estimator, parameter, conditions, zscore
):
    expected = fit_nilearn(recording, conditions, zscore=zscore, estimator=string).decoder
    samples = load_samples(recording, make_contrast(conditions), Roi(), Signal(zscore))
    fitted = fit_decoder(
        samples.X,
        samples.y,
        list(split_samples(samples, LOGO).folds.values()),
        estimator,
        "roc_auc",
        samples.preparation,
    )
    assert fitted.classes.tolist() == sorted(conditions)
    for column, name in enumerate(problems(conditions)):
        np.testing.assert_array_equal(fitted.scores[:, column], expected.cv_scores_[name])
        if parameter is not None:
            chosen = [params[column][parameter.removeprefix("best_")] for params in fitted.params]
            np.testing.assert_array_equal(chosen, expected.cv_params_[name][parameter])
    if estimator is DUMMY:
        assert fitted.coef is None
        assert fitted.params == (({},) * len(problems(conditions)),) * 4
    else:
        np.testing.assert_array_equal(fitted.coef, expected.coef_)
        np.testing.assert_array_equal(fitted.coef_sd, expected.std_coef_[-len(fitted.coef) :])
        np.testing.assert_array_equal(fitted.intercept, np.atleast_1d(expected.intercept_))


@pytest.mark.parametrize("percentile", [20, 0.2])
def test_screening_inside_the_folds_is_nilearns(tiny_subject, percentile):
    size = {20: 20.0, 0.2: 4.0}[percentile]  # 39 and 49 percent of 120 voxels
    affine = np.diag([size, size, size, 1])
    data_dir = tiny_subject(affine=affine, planted={"face": (1, 2, 1)}, effect=25)
    recording = read_subject(data_dir / "haxby2001", 1, dataset="haxby")
    expected = fit_nilearn(
        recording, TWO, roi="brain", estimator="svc", screening_percentile=percentile
    ).decoder
    roi = Roi(mask="brain", screening_percentile=percentile)
    samples = load_samples(recording, make_contrast(TWO), roi, Signal())
    fitted = fit_decoder(
        samples.X,
        samples.y,
        list(split_samples(samples, LOGO).folds.values()),
        SVC,
        "roc_auc",
        samples.preparation,
    )
    np.testing.assert_array_equal(fitted.scores[:, 0], expected.cv_scores_["face"])
    np.testing.assert_array_equal(fitted.coef, expected.coef_)
    assert 40 < np.count_nonzero(fitted.coef) < 120


# Test scores against nilearn's Decoder on images ------------------------------------------------------------


@pytest.mark.parametrize("conditions", [TWO, THREE], ids=len)
@pytest.mark.parametrize(
    "string, estimator",
    first(1, [("svc", SVC), ("svc_l1", SVC_L1), ("ridge_classifier", RIDGE), ("dummy_classifier", DUMMY)]),
    ids=named,
)
def test_predictions_are_those_of_nilearns_decoder_fitted_on_the_training_volumes(
    recording, string, estimator, conditions
):
    contrast = make_contrast(conditions)
    samples = load_samples(recording, contrast, Roi(), Signal())
    scheme = Scheme("holdout", HoldOutLast(10))
    evaluation = evaluate(samples, estimator, scheme, Scoring(inner_folds=5))
    images = index_img(recording.bold, samples.volumes)
    decoder = Decoder(
        estimator=string, mask=recording.masks["vt"], cv=5, scoring="roc_auc", standardize="zscore_sample"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoder.fit(index_img(images, slice(0, -10)), samples.y[:-10])
        expected = decoder.predict(index_img(images, slice(-10, None)))
        fold = (np.arange(len(samples.y) - 10), np.arange(len(samples.y) - 10, len(samples.y)))
        stored = Decoder(**decoder.get_params() | {"cv": [fold]}).fit(images, samples.y)
    table = evaluation.predictions
    assert table["volume"].tolist() == samples.volumes[-10:].tolist()
    assert table["class"].tolist() == samples.y[-10:].tolist()
    assert table["predicted"].tolist() == expected.tolist()
    assert evaluation.folds["test_accuracy"].tolist() == [accuracy_score(samples.y[-10:], expected)]
    fitted = stored.predict(images)[:-10]
    assert evaluation.train_accuracy == accuracy_score(samples.y[:-10], fitted)
    if estimator is not DUMMY:
        decision = decoder.decision_function(index_img(images, slice(-10, None)))
        if len(conditions) == 2:
            # nilearn's are above zero for the second in the alphabet, face; so are ours, for the first named.
            np.testing.assert_array_equal(table["decision_value"], decision)
        else:
            columns = table[[f"decision_value_{name}" for name in sorted(conditions)]]
            np.testing.assert_array_equal(columns, decision)


@pytest.mark.parametrize("conditions", [TWO, pytest.param(THREE, marks=pytest.mark.slow)], ids=len)
@pytest.mark.parametrize("strategy", ["most_frequent", "prior", "stratified"])
def test_dummy_predicts_as_nilearns_for_every_strategy(recording, strategy, conditions):
    samples = load_samples(recording, make_contrast(conditions), Roi(), Signal())
    kept = np.flatnonzero((samples.y == "cat") | (np.arange(len(samples.y)) % 3 > 0))  # more cats than others
    y, runs = samples.y[kept], samples.runs[kept]
    folds = list(LeaveOneGroupOut().split(y, groups=runs))
    model = DummyClassifier(strategy=strategy, random_state=0)
    fitted = fit_decoder(
        samples.X[kept], y, folds, Estimator("dummy", model), "roc_auc", FoldPreprocessing("own")
    )
    images = index_img(recording.bold, samples.volumes[kept])
    decoder = Decoder(model, mask=recording.masks["vt"], cv=folds, standardize="zscore_sample")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoder.fit(images, y)
        expected = decoder.predict(images)
    assert fitted.predict(samples.X[kept]).tolist() == expected.tolist()


@pytest.mark.parametrize("strategy", ["uniform", "constant"])
def test_dummy_strategy_that_nilearn_lacks_is_refused(strategy):
    with pytest.raises(UsageError, match=rf"{strategy}.*most_frequent, prior.* stratified"):
        Estimator("dummy", DummyClassifier(strategy=strategy))


# Both engines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zscore", ["own", pytest.param("run", marks=pytest.mark.slow)])
@pytest.mark.parametrize("conditions", [TWO, pytest.param(THREE, marks=pytest.mark.slow)], ids=len)
@pytest.mark.parametrize(
    "estimator",
    first(1, [SVC, SVC_L1, RIDGE, LDA, DUMMY, pytest.param(LOGISTIC, marks=pytest.mark.slow)]),
    ids=named,
)
def test_both_engines_give_the_same_tables(recording, estimator, conditions, zscore):
    if estimator is LOGISTIC:
        estimator = replace(LOGISTIC, model=logistic([0.01, 1.0, 100.0]))
    ours, theirs = (
        decode(
            recording,
            Question(
                make_contrast(conditions),
                estimator,
                LOGO,
                signal=Signal(zscore),
                scoring=Scoring(inner_folds=2),
                engine=engine,
            ),
        )
        for engine in ("harness", "nilearn")
    )
    pd.testing.assert_frame_equal(ours.folds, theirs.folds, check_exact=True)
    pd.testing.assert_frame_equal(ours.predictions, theirs.predictions, rtol=1e-12)
    assert ours.train_accuracy == theirs.train_accuracy
    assert len(ours.weights) == len(theirs.weights)
    for our_map, their_map in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(our_map.mean.dataobj, their_map.mean.dataobj)
        np.testing.assert_array_equal(our_map.sd.dataobj, their_map.sd.dataobj)


def test_nilearns_engine_refuses_training_moments(recording):
    with pytest.raises(UsageError, match=r"engine=nilearn .*signal=tutorial"):
        decode(recording, Question(make_contrast(TWO), SVC, LOGO, signal=Signal("train"), engine="nilearn"))


def test_unknown_engine_is_refused(recording):
    with pytest.raises(UsageError, match=r"engine='torch' .*harness, nilearn"):
        decode(recording, Question(make_contrast(TWO), SVC, LOGO, engine="torch"))


# Truth ------------------------------------------------------------------------------------------------------


def evaluate_noise(make_samples, estimator, scheme, seed, n_runs=4, n_blocks=24, block=4):
    """Evaluate runs of many blocks in random order: noise with AR(1) rho = .7 and no signal."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_runs, n_blocks * block, 20))
    for volume in range(1, n_blocks * block):
        X[:, volume] = 0.7 * X[:, volume - 1] + np.sqrt(1 - 0.7**2) * X[:, volume]
    y = [np.repeat(rng.permutation(TWO * (n_blocks // 2)), block) for _ in range(n_runs)]
    runs = np.repeat(range(n_runs), n_blocks * block)
    samples = make_samples(
        X.reshape(-1, 20), np.concatenate(y), runs, make_contrast(TWO), FoldPreprocessing("own")
    )
    return evaluate(samples, estimator, scheme, Scoring(inner_folds=2)).folds.mean(numeric_only=True)


def mean_and_error(values):
    """Mean over seeds, whose noise is independent, and so its standard error."""
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))


@pytest.mark.slow
def test_pure_noise_gives_chance_for_test_scores_under_logo_and_not_where_neighbours_are_split(make_samples):
    estimator = Estimator("ridge", RidgeClassifier(alpha=10.0))
    honest = pd.DataFrame([evaluate_noise(make_samples, estimator, LOGO, seed) for seed in range(12)])
    for column in ("test_accuracy", "test_balanced_accuracy", "test_roc_auc"):
        mean, error = mean_and_error(honest[column])
        assert error < 0.02
        assert abs(mean - 0.5) < 4 * error
    # The control: the same noise, volumes of one block on both sides.
    split = Scheme("shuffled", StratifiedKFold(4, shuffle=True, random_state=0))
    leaky = [evaluate_noise(make_samples, estimator, split, seed)["test_accuracy"] for seed in range(4)]
    mean, error = mean_and_error(leaky)
    assert mean - 4 * error > 0.5


def test_selected_scores_of_noise_are_too_high_and_test_scores_are_not(make_samples):
    """The luckiest of several coins: the reason why the two kinds of scores have two names."""
    coins = replace(DUMMY, grid={"random_state": list(range(6))})
    scores = pd.DataFrame([evaluate_noise(make_samples, coins, LOGO, seed) for seed in range(6)])
    # The area of coins for 48 + 48 volumes is .5 with an SD of .5 / sqrt(96); the best of six is 1.27 SD up.
    mean, error = mean_and_error(scores["selected_roc_auc"])
    assert abs(mean - (0.5 + 1.27 * 0.5 / np.sqrt(96))) < 4 * error
    assert mean - 4 * error > 0.5
    mean, error = mean_and_error(scores["test_roc_auc"])
    assert abs(mean - 0.5) < 4 * error


def test_under_logo_no_run_is_in_training_and_held_out_volumes(make_samples, rng):
    """The share of faces follows the order of runs, and the first voxel is the run's number."""
    runs = np.repeat(range(4), 10)
    y = np.concatenate([["face"] * (2 + 2 * run) + ["cat"] * (8 - 2 * run) for run in range(4)])
    X = rng.normal(size=(40, 5))
    X[:, 0] = runs
    samples = make_samples(X, y, runs, make_contrast(TWO))
    fits = []

    def spy(X, y, folds, *arguments):
        fits.append((X[:, 0], folds))
        return fit_decoder(X, y, folds, *arguments)

    evaluation = evaluate(samples, LDA, LOGO, Scoring(inner_folds=2), spy)
    (_, outer), *inner = fits
    for train, test in outer:
        assert not set(runs[train]) & set(runs[test])
        assert sorted([*train, *test]) == list(range(40))
    assert len(outer) == len(inner) == 4
    for fold, (seen, folds) in enumerate(inner):
        assert sorted(set(seen)) == [run for run in range(4) if run != fold]
        assert all(not set(train) & set(test) for train, test in folds)
        predicted = evaluation.predictions.query(f"fold == {fold + 1}")
        assert set(predicted["run"]) == {fold}
        assert len(predicted) == 10
    assert evaluation.folds["runs_held_out"].tolist() == ["0", "1", "2", "3"]
    assert evaluation.folds["n_train"].tolist() == [30] * 4
    assert evaluation.folds["n_test"].tolist() == [10] * 4


# Standardisation --------------------------------------------------------------------------------------------


def test_train_standardises_by_the_training_volumes(make_samples, rng):
    X = rng.normal(1000, 50, size=(40, 6)).astype(np.float32)
    y = np.tile(TWO, 20)
    X[y == "face", 2] += 80
    samples = make_samples(X, y, np.repeat(range(4), 10), preparation=FoldPreprocessing("train"))
    ridge = Estimator("ridge", RidgeClassifierCV(alphas=[1.0]))
    fitted = fit_decoder(
        X, y, list(split_samples(samples, LOGO).folds.values()), ridge, "accuracy", samples.preparation
    )
    X = X.astype(float)
    coefs, scores = [], []
    for train, test in LeaveOneGroupOut().split(X, y, samples.runs):
        mean, sd = X[train].mean(axis=0), X[train].std(axis=0, ddof=1)
        model = RidgeClassifierCV(alphas=[1.0]).fit((X[train] - mean) / sd, y[train])
        coefs.append(np.ravel(model.coef_))
        scores.append(model.score((X[test] - mean) / sd, y[test]))
    np.testing.assert_allclose(fitted.coef[0], np.mean(coefs, axis=0), rtol=1e-6)
    np.testing.assert_allclose(fitted.scores[:, 0], scores)
    # One volume is predicted as it is in company; by its own mean and SD it could not be.
    together = fitted.decision_function(samples.X)
    alone = [fitted.decision_function(samples.X[[row]])[0] for row in range(40)]
    np.testing.assert_allclose(alone, together, rtol=1e-6)
    assert np.ptp(together) > 0.5


def test_own_standardises_the_held_out_volumes_by_themselves(make_samples, rng):
    X, y = rng.normal(size=(40, 6)), np.tile(TWO, 20)
    X[y == "face", 2] += 3
    runs = np.repeat(range(4), 10)
    moved = X + 1000 * (runs == 3)[:, np.newaxis]  # float32 keeps 1e-4 of it
    scheme, scoring = Scheme("holdout", HoldOutLast(10)), Scoring(inner_folds=2)
    plain, offset = (
        evaluate(make_samples(data, y, runs, preparation=FoldPreprocessing("own")), LDA, scheme, scoring)
        for data in (X, moved)
    )
    np.testing.assert_allclose(
        plain.predictions["decision_value"], offset.predictions["decision_value"], rtol=0.01, atol=0.01
    )
    assert plain.predictions["decision_value"].std() > 1


# Folds that are refused -------------------------------------------------------------------------------------


def test_leave_one_run_out_needs_two_runs(make_samples, rng):
    samples = make_samples(rng.normal(size=(20, 3)), np.tile(TWO, 10), np.zeros(20, dtype=int))
    with pytest.raises(DesignError, match=r"cv=logo cannot split 20 volumes of 1 run"):
        split_samples(samples, LOGO)


def test_holding_out_every_volume_is_refused(make_samples, rng):
    samples = make_samples(rng.normal(size=(20, 3)), np.tile(TWO, 10), np.repeat([0, 1], 10))
    with pytest.raises(DesignError, match=r"cv=holdout30 .*n_volumes=30 of 20"):
        split_samples(samples, Scheme("holdout30", HoldOutLast(30)))


@pytest.mark.parametrize(
    "splitter, y, words",
    [
        (LeaveOneGroupOut(), ["face"] * 10 + TWO * 5, ["fold 1", "held-out", "(10, of run 0)", "'cat'"]),
        (LeaveOneGroupOut(), TWO * 5 + ["cat"] * 10, ["fold 1", "training", "(10, of run 1)", "'face'"]),
        (KFold(2), ["face"] * 10 + ["cat"] * 10, ["fold 1", "training", "'face'"]),
        (LeaveOneOut(), TWO * 10, ["fold 1", "held-out", "(1, of run 0)", "'cat'"]),
    ],
)
def test_fold_that_lacks_a_class_is_refused(make_samples, rng, splitter, y, words):
    samples = make_samples(rng.normal(size=(20, 3)), y, np.repeat([0, 1], 10), make_contrast(TWO))
    with pytest.raises(DesignError) as raised:
        evaluate(samples, LDA, Scheme("mine", splitter), Scoring(inner_folds=2))
    for word in ["cv=mine", *words]:
        assert word in str(raised.value)


def test_fewer_volumes_than_inner_folds_are_refused(make_samples, rng):
    samples = make_samples(rng.normal(size=(20, 3)), TWO * 10, np.repeat([0, 1], 10))
    with pytest.raises(DesignError) as raised:
        evaluate(samples, LDA, LOGO, Scoring(inner_folds=6))
    for word in ["fold 1 of cv=logo", "has 5 training volumes", "6 inner folds", "scoring.inner_folds=5"]:
        assert word in str(raised.value)
    # What the message proposes works.
    assert len(evaluate(samples, LDA, LOGO, Scoring(inner_folds=5)).folds) == 2


def test_schemes_that_ignore_runs_do_so_without_a_warning(make_samples, rng):
    samples = make_samples(rng.normal(size=(20, 3)), TWO * 10, np.repeat([0, 1], 10))
    folds = list(split_samples(samples, Scheme("kfold", KFold(4))).folds.values())
    for ours, theirs in zip(folds, KFold(4).split(np.zeros(20)), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_a_classifier_without_weights_is_refused(make_samples, rng):
    samples = make_samples(rng.normal(size=(20, 3)), TWO * 10, np.repeat([0, 1], 10))
    with pytest.raises(UsageError, match=r"estimator=knn: KNeighborsClassifier has no coef_"):
        evaluate(samples, Estimator("knn", KNeighborsClassifier()), LOGO, Scoring(inner_folds=2))


# Scores and predictions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditions", [["face", "cat"], ["cat", "face"]])
def test_decision_values_above_zero_mean_the_first_class(make_samples, rng, conditions):
    y = np.tile(TWO, 20)
    X = rng.normal(size=(40, 4))
    X[:, 1] += 10 * (y == conditions[0])
    samples = make_samples(X, y, np.repeat(range(4), 10), make_contrast(conditions), FoldPreprocessing("own"))
    evaluation = evaluate(samples, SVC, LOGO, Scoring(inner_folds=2))
    table = evaluation.predictions
    np.testing.assert_array_equal(table["decision_value"] > 0, table["class"] == conditions[0])
    np.testing.assert_array_equal(table["predicted"], table["class"])
    assert evaluation.folds["test_roc_auc"].tolist() == [1.0] * 4


def test_predictions_name_their_volumes(recording):
    contrast = make_contrast([{"animate": ["face", "cat"], "place": ["house"]}])
    decoding = decode(recording, Question(contrast, LDA, LOGO, scoring=Scoring(inner_folds=2)))
    table = decoding.predictions
    labels = recording.labels.iloc[table["volume"]]
    assert table["condition"].tolist() == labels["condition"].tolist()
    assert table["run"].tolist() == labels["run"].tolist()
    assert table["fold"].tolist() == (labels["run"] + 1).tolist()
    assert table["class"].tolist() == np.where(labels["condition"] == "house", "place", "animate").tolist()
    shown = recording.labels["condition"] != "rest"
    assert sorted(table["volume"]) == np.flatnonzero(shown).tolist()


@pytest.mark.parametrize("conditions", [TWO, ["house", "face", "cat"]], ids=len)
def test_confusion_has_the_contrasts_order(recording, conditions):
    decoding = decode(
        recording, Question(make_contrast(conditions), LDA, LOGO, scoring=Scoring(inner_folds=2))
    )
    table = decoding.predictions
    expected = pd.crosstab(table["class"], table["predicted"]).reindex(
        index=conditions, columns=conditions, fill_value=0
    )
    np.testing.assert_array_equal(decoding.confusion, expected)
    assert not np.array_equal(decoding.confusion, decoding.confusion.T)


def test_several_classes_have_a_selected_score_and_a_parameter_each(recording):
    expected = fit_nilearn(recording, THREE, estimator="svc").decoder
    decoding = decode(recording, Question(make_contrast(THREE), SVC, LOGO, scoring=Scoring(inner_folds=2)))
    folds = decoding.folds
    for name in THREE:
        assert folds[f"selected_roc_auc_{name}"].tolist() == list(expected.cv_scores_[name])
        assert folds[f"best_C_{name}"].tolist() == list(expected.cv_params_[name]["C"])
    np.testing.assert_allclose(
        folds["selected_roc_auc"], np.mean([expected.cv_scores_[name] for name in THREE], axis=0)
    )


def test_the_dummy_has_no_parameters_and_no_weights(recording):
    decoding = decode(recording, Question(make_contrast(TWO), DUMMY, LOGO, scoring=Scoring(inner_folds=2)))
    assert not [name for name in decoding.folds if name.startswith("best_")]
    assert decoding.weights == []


def test_the_summary_is_mean_and_sd_over_folds(recording):
    decoding = decode(recording, Question(make_contrast(TWO), LDA, LOGO, scoring=Scoring(inner_folds=2)))
    scores = decoding.folds["test_accuracy"].tolist()
    summary = decoding.summarise().loc["test_accuracy"]
    mean = sum(scores) / 4
    assert summary["mean"] == pytest.approx(mean)
    assert summary["sd"] == pytest.approx((sum((score - mean) ** 2 for score in scores) / 3) ** 0.5)
    assert summary["sd"] > 0


def test_training_moments_standardise_the_held_out_volumes(make_samples, rng):
    """By hand: every fold's held-out volumes in units of the mean and SD of the volumes it was fitted on."""
    y = np.tile(["cat", "face"], 24)
    X = rng.normal(1000, 20, (48, 30)) + 15 * (y == "face")[:, np.newaxis] * (np.arange(30) < 5)
    samples = make_samples(X, y, np.repeat(range(4), 12), preparation=FoldPreprocessing(zscore="train"))
    estimator = Estimator("svc", LinearSVC(tol=1e-8, max_iter=100_000), {"C": [0.1]})
    evaluation = evaluate(samples, estimator, LOGO, Scoring(inner_folds=3))
    X = samples.X.astype(float)
    for run in range(4):
        train, test = samples.runs != run, samples.runs == run
        X_train, y_train = X[train], y[train]
        coefs, intercepts = [], []
        for inner, _ in StratifiedKFold(3).split(X_train, y_train):
            Z = (X_train[inner] - X_train[inner].mean(0)) / X_train[inner].std(0, ddof=1)
            model = LinearSVC(C=0.1, tol=1e-8, max_iter=100_000).fit(Z, y_train[inner])
            coefs.append(model.coef_[0])
            intercepts.append(model.intercept_[0])
        Z_test = (X[test] - X_train.mean(0)) / X_train.std(0, ddof=1)
        decision = Z_test @ np.mean(coefs, axis=0) + np.mean(intercepts)
        towards_first = 1 if samples.contrast.classes[0] == "face" else -1
        found = evaluation.predictions.query(f"fold == {run + 1}")["decision_value"]
        np.testing.assert_allclose(found, towards_first * decision, rtol=1e-4, atol=1e-4)


def test_unknown_scorers_are_refused():
    for requested in ({"select": "f1"}, {"report": ("accuracy", "f1")}, {"report": ()}, {"inner_folds": 1}):
        with pytest.raises(UsageError, match=f"scoring.{next(iter(requested))}"):
            Scoring(**requested)


@pytest.mark.filterwarnings("ignore:Only one class is present", "ignore:y_pred contains classes")
def test_a_held_out_set_may_lack_a_class_of_many_but_not_hold_only_one(make_samples, rng):
    y = np.array(["a", "b", "c"] * 12 + ["a", "b"] * 6)
    X = rng.normal(size=(len(y), 20)) + 2 * (y == "a")[:, np.newaxis]
    estimator = Estimator("svc", LinearSVC(), {"C": [1.0]})
    samples = make_samples(X, y, np.repeat([0, 1], [36, 12]))
    evaluation = evaluate(samples, estimator, Scheme("last", HoldOutLast(12)), Scoring(inner_folds=3))
    (fold,) = evaluation.folds.to_dict("records")
    held_out = evaluation.predictions
    areas = [roc_auc_score(held_out["class"] == name, held_out[f"decision_value_{name}"]) for name in "ab"]
    assert fold["test_roc_auc"] == pytest.approx(np.mean(areas))
    assert np.isnan(fold["selected_roc_auc_c"])
    only_one = make_samples(X[:37], [*y[:36].tolist(), "a"], np.repeat([0, 1], [36, 1]))
    with pytest.raises(DesignError, match="at least 2 classes"):
        evaluate(only_one, estimator, Scheme("last", HoldOutLast(1)), Scoring(inner_folds=3))


# Folds that are skipped -------------------------------------------------------------------------------------

LOGO_SKIP = Scheme("logo", LeaveOneGroupOut(), "skip")


@pytest.fixture(scope="module")
def gap_recording(tiny_subject):
    """A subject of four scanner runs, of which run 2 has no face: a house was shown instead."""
    data_dir = tiny_subject(planted={"face": (1, 2, 1), "cat": (0, 3, 3)}, effect=25)
    file = data_dir / "haxby2001" / "subj1" / "labels.txt"
    file.write_text(file.read_text().replace("face 2", "house 2"))
    return read_subject(data_dir / "haxby2001", 1, dataset="haxby")


def decode_gap(recording, scheme, estimator=SVC, conditions=TWO, engine="harness"):
    return decode(
        recording,
        Question(make_contrast(conditions), estimator, scheme, scoring=Scoring(inner_folds=2), engine=engine),
    )


def test_message_about_an_incomplete_fold_names_the_option(gap_recording):
    with pytest.raises(DesignError, match=r"fold 3: .*of run 2.*no 'face'.*cv\.incomplete=skip"):
        decode_gap(gap_recording, LOGO)


@pytest.mark.parametrize("engine", ["harness", pytest.param("nilearn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("estimator", [SVC, LDA, DUMMY], ids=named)
def test_skipped_folds_leave_the_others_as_they_are(gap_recording, estimator, engine):
    """scikit-learn's PredefinedSplit never holds out a sample of fold -1, and always trains on it."""
    runs = gap_recording.labels["run"][gap_recording.labels["condition"].isin(TWO)].to_numpy()
    expected = decode_gap(
        gap_recording, Scheme("logo", PredefinedSplit(np.where(runs == 2, -1, runs))), estimator
    )
    ours = decode_gap(gap_recording, LOGO_SKIP, estimator, engine=engine)
    assert ours.folds["fold"].tolist() == [1, 2, 4]
    assert ours.folds["runs_held_out"].tolist() == ["0", "1", "3"]
    columns = [name for name in expected.folds.columns if name != "fold"]
    pd.testing.assert_frame_equal(ours.folds[columns], expected.folds[columns], check_exact=True)
    assert set(ours.predictions["run"]) == {0, 1, 3}
    np.testing.assert_array_equal(ours.predictions["fold"], ours.predictions["run"] + 1)
    for our_map, their_map in zip(ours.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(our_map.mean.dataobj, their_map.mean.dataobj)
    assert ours.flat_scores() == expected.flat_scores()


def test_selected_scores_of_the_remaining_folds_are_nilearns(gap_recording):
    rows = np.flatnonzero(gap_recording.labels["condition"].isin(TWO))
    runs = gap_recording.labels["run"].to_numpy()[rows]
    folds = [(np.flatnonzero(runs != run), np.flatnonzero(runs == run)) for run in (0, 1, 3)]
    expected = fit_nilearn(gap_recording, TWO, cv=folds, grouped=False, estimator="svc").decoder
    ours = decode_gap(gap_recording, LOGO_SKIP)
    np.testing.assert_array_equal(ours.folds["selected_roc_auc"], expected.cv_scores_["face"])
    np.testing.assert_array_equal(ours.decoder.coef, expected.coef_)


def test_skipped_folds_are_in_the_notices_and_in_a_table(gap_recording):
    decoding = decode_gap(gap_recording, LOGO_SKIP, LDA)
    (notice,) = decoding.notices
    for words in ("1 of 4 folds", "cv.incomplete=skip", "fold 3", "of run 2", "no 'face'"):
        assert words in notice, words
    (row,) = decoding.skipped.to_dict("records")
    assert (row["scheme"], row["fold"], row["runs_held_out"]) == ("logo", 3, "2")
    assert (row["n_train"], row["n_test"]) == (3 * 8, 4)
    assert "no 'face'" in row["skipped"]


@pytest.mark.filterwarnings("ignore:Only one class is present", "ignore:y_pred contains classes")
@pytest.mark.parametrize(
    ("splitter", "y", "kept"),
    [
        # Held out: one class.
        (LeaveOneGroupOut(), TWO * 4 + ["cat"] * 8 + TWO * 4, [1, 3]),
        (KFold(6), TWO * 4 + ["cat"] * 8 + TWO * 4, [1, 2, 5, 6]),
        # A training set without a class: every face is in run 1.
        (LeaveOneGroupOut(), ["cat", "house"] * 4 + ["cat", "face"] * 4 + ["cat", "house"] * 4, [1, 3]),
    ],
)
def test_every_scheme_can_skip(make_samples, rng, splitter, y, kept):
    classes = list(dict.fromkeys(y))
    contrast = make_contrast(classes if len(classes) > 2 else TWO)
    samples = make_samples(rng.normal(size=(24, 3)), y, np.repeat([0, 1, 2], 8), contrast)
    with pytest.warns(UserWarning, match=r"folds are skipped"):
        evaluation = evaluate(samples, LDA, Scheme("mine", splitter, "skip"), Scoring(inner_folds=2))
    assert evaluation.folds["fold"].tolist() == kept
    n_folds = splitter.get_n_splits(samples.X, samples.y, samples.runs)
    assert sorted(kept + evaluation.skipped["fold"].tolist()) == list(range(1, n_folds + 1))


def test_skipping_changes_nothing_where_every_fold_is_complete(recording):
    skipping, refusing = (decode_gap(recording, scheme, LDA) for scheme in (LOGO_SKIP, LOGO))
    pd.testing.assert_frame_equal(skipping.folds, refusing.folds)
    assert skipping.notices == []
    assert skipping.skipped.empty


def test_scheme_without_a_complete_fold_is_refused(make_samples, rng):
    samples = make_samples(rng.normal(size=(20, 3)), TWO * 10, np.repeat([0, 1], 10))
    for scheme in (Scheme("one", LeaveOneOut(), "skip"), Scheme("one", LeaveOneOut())):
        with pytest.raises(DesignError, match=r"cv=one: fold 1: .*choose another cv or contrast") as raised:
            evaluate(samples, LDA, scheme, Scoring(inner_folds=2))
        assert "cv.incomplete=skip to" not in str(raised.value)


@pytest.mark.parametrize("value", ["skp", "", None, True, 5, ["skip"], {"skip": 1}])
def test_incomplete_is_skip_or_refuse(value):
    with pytest.raises(UsageError, match=r"cv\.incomplete=.*refuse.*skip"):
        Scheme("logo", LeaveOneGroupOut(), value)


def test_train_accuracy_is_that_of_the_mean_model_on_its_training_volumes(rng, make_samples):
    y = np.tile(np.repeat(["a", "b"], 6), 4)
    X = rng.normal(size=(len(y), 9)) + np.where(y == "a", 0.3, -0.3)[:, np.newaxis]
    samples = make_samples(X, y, np.repeat(np.arange(4), 12))
    estimator = Estimator("svc", LinearSVC(random_state=0), {"C": [1.0]})
    X = samples.X.astype(float)
    train_sets = [train for train, _ in LeaveOneGroupOut().split(X, y, samples.runs)]
    models = [
        LinearSVC(random_state=0).fit(X[train], np.where(y[train] == "b", 1, -1)) for train in train_sets
    ]
    decision = X @ np.mean([model.coef_[0] for model in models], axis=0)
    decision += np.mean([model.intercept_[0] for model in models])
    expected = np.mean((decision > 0) == (y == "b"))
    assert 0.5 < expected < 1
    assert evaluate(samples, estimator, LOGO, Scoring(inner_folds=2)).train_accuracy == expected
