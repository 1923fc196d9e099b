"""The methods text: what a configuration says, in words."""

import re

import pytest
from report_runs import make_config

from harness.report.methods_references import REFERENCES
from harness.report.methods_text import MethodFacts, list_class_names, write_methods

PARAMS = {"dataset": "haxby", "subject": "2", "n_voxels": "464", "n_samples": "216", "n_folds": "12"}


def text_of(params=PARAMS, **config):
    tested = {"n_relabellings": 2048, "inference_method": "enumerated"}
    facts = MethodFacts(make_config(**config), params, {"nilearn": "0.14.1"}, n_blocks=24, **tested)
    return " ".join(write_methods(facts).paragraphs)


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
        ("own", "held-out volumes of a fold were standardised by their own mean and SD"),
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
    assert "216 block averages" in text


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"grid": {"C": [1.0, 10.0, 100.0]}}, "C was chosen from 1, 10, 100 by accuracy"),
        ({"grid": {"C": [1.0]}}, "C was 1."),
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


def test_a_permutation_test_is_described_with_its_relabellings():
    enumerated = text_of(inference={"kind": "permutation", "relabel": "blocks", "n": 1000, "maps": True})
    assert "all 2048 distinct relabellings" in enumerated
    assert "corrected over voxels by the maximum statistic" in enumerated
    facts = MethodFacts(make_config(inference={"kind": "permutation", "n": 500, "seed": 7}), PARAMS, {})
    methods = write_methods(facts)
    assert "500 random relabellings, seed 7" in " ".join(methods.paragraphs)
    assert REFERENCES["smallest-p"] in methods.references
    assert "No significance test" in text_of()


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
