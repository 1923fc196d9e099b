"""The methods text: what a configuration says, in words."""

import re

import pytest
from report_runs import make_config

from harness.report.methods_facts import MethodFacts, list_class_names
from harness.report.methods_references import REFERENCES
from harness.report.methods_text import write_methods

PARAMS = {"dataset": "haxby", "subject": "2", "n_voxels": "464", "n_samples": "216", "n_folds": "12"}


ENUMERATED = {"n_relabellings": 2048, "inference_method": "enumerated"}


def methods_of(params=PARAMS, tested=ENUMERATED, **config):
    return write_methods(
        MethodFacts(make_config(**config), params, {"nilearn": "0.14.1"}, n_blocks=24, **tested)
    )


def text_of(params=PARAMS, tested=ENUMERATED, **config):
    return " ".join(methods_of(params, tested, **config).paragraphs)


def cited(key, **config):
    return REFERENCES[key] in methods_of(**config).references


def test_counts_region_scheme_and_versions_are_stated():
    text = text_of()
    for part in (
        "Data set haxby, subject 2",
        "464 voxels of the region vt",
        "The classes face and cat were decoded from 216 single volumes from 24 stimulation blocks",
        "a linear support vector machine",
        "leave-one-scanner-run-out cross-validation (12 folds)",
        "SD is not a basis for a standard error.",
        "nilearn 0.14.1",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("zscore", "words"),
    [
        ("own", "the training and the held-out volumes of a fold were standardised (voxels with mean 0"),
        ("run", "within every scanner run"),
        ("train", "with the mean and SD of the training volumes of every fold"),
        ("none", "Voxels were not standardised"),
    ],
)
def test_the_origin_of_the_standardisation_is_stated(zscore, words):
    assert words in text_of(signal={"zscore": zscore})


def test_preprocessing_is_listed_in_its_order():
    signal = {
        "zscore": "own",
        "smoothing_fwhm": 6.0,
        "detrend": True,
        "high_pass": 0.01,
        "confounds": ["x", "y"],
        "lag": 2,
        "trim_first": 1,
        "trim_last": 0,
        "average_blocks": True,
    }
    text = text_of(signal=signal)
    places = [text.index(word) for word in ("6 mm FWHM", "detrended", "0.01 Hz", "(x, y)", "by 2 volumes")]
    assert places == sorted(places)
    assert "The first 1 and last 0 volumes of every block" in text
    assert "216 block averages from 24 stimulation blocks" in text
    assert "training and the held-out block averages of a fold" in text


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"grid": {"C": [1.0, 10.0, 100.0]}}, "C was chosen from 1, 10, 100 by accuracy"),
        ({"grid": {"C": [1.0]}}, "C was 1. Test scores are from the mean of the decoders of inner folds"),
        ({"grid": {"C": {"times_l1_min_c": [2.0, 20.0]}}}, "2, 20 times the smallest value"),
        ({"grid": {}}, "no penalty that was chosen from the data"),
    ],
)
def test_the_choice_of_the_penalty_is_stated(node, words):
    node = {"_target_": "harness.solvers.estimators.ExactLinearSVC"} | node
    assert words in text_of(estimator=node)


def test_a_grid_inside_the_estimator_is_stated():
    node = {
        "_target_": "harness.solvers.estimators.ExactRidgeClassifierCV",
        "alphas": [0.1, 10.0],
        "grid": {},
    }
    assert "The penalty was chosen from 0.1, 10 inside the training volumes" in text_of(estimator=node)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("ExactRidgeClassifierCV", {"alphas": [10.0]}, "a ridge classifier with a penalty of alpha = 10."),
        ("ExactLogisticRegressionCV", {"Cs": [0.1], "cv": 5}, "(solved to its optimum) with C = 0.1."),
    ],
)
def test_of_a_single_penalty_no_choice_is_stated(name, values, words):
    text = text_of(estimator={"_target_": f"harness.solvers.estimators.{name}", "grid": {}} | values)
    assert words in text
    assert "no penalty that was chosen from the data" in text
    assert "chosen from" not in text.replace("chosen from the data", "")


def test_a_permutation_test_is_described_with_its_relabellings():
    settings = {"kind": "permutation", "relabel": "blocks", "n": 500, "seed": 7, "maps": True}
    enumerated = text_of(inference=settings, tested=ENUMERATED | {"has_tested_maps": True})
    assert "all 2048 distinct relabellings" in enumerated
    assert "corrected over voxels by the maximum statistic" in enumerated
    random = methods_of(inference=settings, tested={"n_relabellings": 501, "inference_method": "random"})
    assert "(500 random relabellings, seed 7)" in " ".join(random.paragraphs)
    assert "maximum statistic" not in " ".join(random.paragraphs)
    assert REFERENCES["smallest-p"] in random.references
    uncounted = text_of(inference=settings, tested={"inference_method": "enumerated"})
    assert "(all distinct relabellings)" in uncounted
    assert "No significance test" in text_of()


def test_a_run_that_was_not_tested_is_not_described_as_tested():
    # A dummy is not tested, whatever inference= says.
    methods = methods_of(inference={"kind": "permutation", "n": 400, "maps": True}, tested={})
    assert "No significance test of single runs was made." in methods.paragraphs
    assert REFERENCES["permutation"] not in methods.references


def test_a_sequential_test_is_described_with_its_rule():
    settings = {"kind": "permutation", "n": 500, "seed": 7, "stop_early": True}
    tested = {"n_relabellings": 41, "inference_method": "random"}
    methods = methods_of(inference=settings, tested=tested)
    text = " ".join(methods.paragraphs)
    for part in ("Besag and Clifford", "up to 500 random", "40 were computed", "p = 10 / l", "(b + 1)"):
        assert part in text
    assert REFERENCES["sequential"] in methods.references
    enumerated = text_of(inference=settings, tested=ENUMERATED | {"n_relabellings": 41})
    assert "distinct relabellings in random order, seed 7; 40 were computed" in enumerated
    assert "all " not in enumerated[enumerated.index("Significance") : enumerated.index("with the whole")]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"null": "partition"}, "conditions were exchanged between the classes, alike in all scanner runs"),
        ({"relabel": "order_preserving"}, "orders of the classes were exchanged between scanner runs"),
        ({}, "labels of whole stimulation blocks of equal or similar length"),
    ],
)
def test_what_is_exchanged_is_stated(settings, words):
    assert words in text_of(inference={"kind": "permutation"} | settings)


def test_the_primary_score_is_the_first_reported_one_where_the_selecting_one_is_not_reported():
    scoring = {"select": "roc_auc", "report": ["balanced_accuracy"]}
    text = text_of(scoring=scoring, inference={"kind": "permutation"})
    assert "The test score of balanced accuracy is the primary one" in text


SKLEARN = "sklearn.model_selection"


@pytest.mark.parametrize(
    ("cv", "n_folds", "words"),
    [
        ({"_target_": f"{SKLEARN}.KFold", "n_splits": 5}, "5", "with consecutive segments"),
        ({"_target_": f"{SKLEARN}.KFold", "n_splits": 5, "shuffle": True}, "5", "in random order (5 folds)"),
        ({"_target_": f"{SKLEARN}.StratifiedKFold", "n_splits": 5}, "5", "stratified 5-fold"),
        (
            {"_target_": "harness.decoding.splitters.HoldOutLast", "n_volumes": 30},
            "1",
            "the last 30 selected volumes (1 fold)",
        ),
    ],
)
def test_schemes_that_can_divide_blocks_are_described_with_that(cv, n_folds, words):
    params = PARAMS | {"n_folds": n_folds}
    text = text_of(params, cv=cv)
    assert words in text
    assert "Volumes of one stimulation block can be in both" in text
    assert ("mean and SD (n - 1)" in text) == (n_folds != "1")
    assert not cited("leave-run-out", params=params, cv=cv)
    # An average of a block is not divided.
    assert "of one stimulation block" not in text_of(params, cv=cv, signal={"average_blocks": True})


def test_inner_folds_are_those_of_the_configuration():
    runs = {"select": "accuracy", "report": ["accuracy"], "inner": "runs"}
    assert "inner folds that each leave out one scanner run of the training volumes" in text_of(scoring=runs)
    stratified = runs | {"inner": "stratified", "inner_folds": 10}
    assert "10 stratified inner folds of the training volumes" in text_of(scoring=stratified)


LINEAR = {
    "ExactLDA": "Ledoit-Wolf shrinkage of the covariance. It has no penalty that was chosen",
    "ExactRidgeClassifierCV": "by exact leave-one-out. Test scores are from the mean of the decoders",
    "ExactLogisticRegressionCV": "by stratified 5-fold cross-validation of the log-loss. Test scores are",
}


@pytest.mark.parametrize(("name", "words"), LINEAR.items())
def test_estimators_without_a_grid_have_no_optimistic_selected_scores(name, words):
    node = {"_target_": f"harness.solvers.estimators.{name}", "alphas": [1.0, 9.0], "Cs": [1.0, 9.0]}
    node |= {"cv": 5}
    text = text_of(estimator=node | {"grid": {}})
    assert words in text
    assert "optimistic" not in text


def test_a_dummy_has_neither_weights_nor_a_choice():
    node = {"_target_": "sklearn.dummy.DummyClassifier", "strategy": "stratified", "grid": {}}
    text = text_of(estimator=node)
    assert "random classes in the proportions of the training volumes" in text
    assert "Weights" not in text
    assert "inner folds" not in text
    assert not cited("patterns", estimator=node)
    assert cited("patterns")
    assert "the most frequent class" in text_of(estimator=node | {"strategy": "most_frequent"})


def test_nilearns_decoder_is_described_with_its_own_solvers():
    methods = methods_of(engine="nilearn")
    text = " ".join(methods.paragraphs)
    assert "(liblinear, L2 penalty, squared hinge loss)" in text
    assert "solved to its optimum" not in text
    assert "Decoding was done by nilearn's Decoder." in text
    assert REFERENCES["liblinear"] in methods.references
    assert REFERENCES["liblinear"] not in methods_of().references


def test_eight_classes_are_decoded_one_against_the_rest():
    classes = [f"class{number}" for number in range(8)]
    text = text_of(contrast={"conditions": classes})
    assert "class6 and class7 were decoded" in text
    assert "solved to its optimum), one class against the rest." in text


def test_classes_of_several_conditions_are_listed():
    conditions = [{"animate": ["face", "cat"]}, {"inanimate": ["house", "chair"]}]
    contrast = {"conditions": conditions}
    assert "animate (face, cat) and inanimate (house, chair)" in text_of(contrast=contrast)
    assert list_class_names({"contrast": contrast}) == ("animate", "inanimate")


def test_an_unknown_estimator_and_an_empty_configuration_are_named():
    text = text_of(estimator={"_target_": "mine.Forest", "grid": {}}, cv={"_target_": "mine.Split"})
    assert "the estimator Forest" in text
    assert "the cross-validation scheme Split" in text
    assert write_methods(MethodFacts({}, {}, {})).paragraphs


def test_every_doi_is_well_formed_and_cobidas_is_cited():
    methods = write_methods(MethodFacts(make_config(), PARAMS, {}))
    assert REFERENCES["cobidas"] in methods.references
    assert REFERENCES["haxby"] in methods.references
    for reference in REFERENCES.values():
        assert re.search(r"\(\d{4}\)", reference)
        if "doi" in reference:
            assert re.search(r"doi:10\.\d{4,}/\S+$", reference)
