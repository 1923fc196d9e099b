"""The page of a searchlight, and of sweeps with searchlights."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import yaml
from report_runs import make_config, write_run
from searchlight_results import N_RELABELLINGS, make_result

from harness.checks.findings import Finding, Verdict
from harness.report.methods_facts import MethodFacts
from harness.report.methods_references import REFERENCES
from harness.report.report_page import DataTable, Drawing, Frame, Text
from harness.report.run_report import describe_run, write_run_report
from harness.report.searchlight_artifacts import make_record, write_searchlight
from harness.report.searchlight_methods import write_searchlight_methods
from harness.report.searchlight_peaks import list_peaks
from harness.report.searchlight_report import show_stored
from harness.report.sweep_report import describe_runs, write_sweep_report
from harness.tracking.file_digests import write_digests
from harness.tracking.searchlight_content import summarise_map
from harness.tracking.stored_map import read_map
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import ANALYSIS_TAG, AUDIT_TAG, FILES_TAG, INFERENCE_TAG

SHAPE = (7, 6, 3)
NO_IMAGES = "the recording was not read"
ANALYSIS = {
    "_target_": "harness.searchlight.settings.Searchlight",
    "radius": 8.0,
    "min_voxels": 3,
    "mask": "brain",
    "scorer": "accuracy",
    "statistic": "roc_auc",
    "correction": "maximum",
    "cluster_z": 3.09,
}


@pytest.fixture(scope="module")
def data(tiny_subject):
    return tiny_subject(shape=SHAPE)


def make_maps(seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(0.5, 0.02, SHAPE)
    scores[2, 2, 1] = 0.9
    z, p = np.zeros(SHAPE), np.ones(SHAPE)
    z[2, 2, 1], p[2, 2, 1] = 5.5, 0.025
    return scores, z, p


@pytest.fixture
def store(data, tmp_path):
    """Return a function that writes the files of a searchlight, and returns its run."""

    def store(name="map", tested=True, subject="1", scores=None, **options):
        directory = tmp_path / name
        directory.mkdir()
        maps = make_maps() if tested else make_maps()[:1]
        maps = maps if scores is None else (scores, *maps[1:])
        findings = (Finding("runs_split", Verdict.caution, "one of 3 runs.", "nowhere"),)
        analysis = ANALYSIS | options
        kind = {"kind": "permutation", "n": N_RELABELLINGS - 1} if tested else {"kind": "none"}
        config = make_config(
            analysis=analysis,
            inference=kind,
            roi={"mask": "brain"},
            estimator={"_target_": "harness.solvers.estimators.ExactRidgeClassifierCV", "alphas": [1.0]},
        )
        result = make_result(data, *maps, **options)
        write_searchlight(result, findings, directory, yaml.dump(config), "off")
        tags = {ANALYSIS_TAG: "searchlight", AUDIT_TAG: "caution"}
        tags |= {INFERENCE_TAG: "random"} if tested else {}
        params = {
            "dataset": "haxby",
            "subject": subject,
            "analysis": "searchlight",
            "contrast": "face_vs_cat",
            "roi": "brain",
            "signal": "tutorial",
            "estimator": "ridge",
            "cv": "logo",
            "inference": "permutation" if tested else "none",
        }
        return StoredRun(
            uri="sqlite:///none.db",
            artifact_uri=directory.as_uri(),
            run_id=(name.encode().hex() + "0" * 32)[:32],
            name=name,
            status="FINISHED",
            experiment_id="1",
            started=datetime(2026, 1, 2, tzinfo=UTC),
            params=params | {"n_samples": str(len(result.samples.y)), "n_folds": "4"},
            metrics=summarise_map(result),
            tags=tags | {FILES_TAG: write_digests(directory)},
        )

    return store


def sections_of(run):
    return {section.anchor: section for section in describe_run(run, NO_IMAGES)[2]}


def words_of(section):
    return " ".join(block.text for block in section.blocks if isinstance(block, Text))


def test_the_page_of_a_tested_map_answers_with_the_corrected_map(store):
    sections = sections_of(store())
    answer = words_of(sections["summary"])
    assert "Where in brain of subject 1 (haxby) do spheres of 8 mm distinguish face vs cat?" in answer
    assert "Highest accuracy 0.900" in answer
    assert "1 of 126 centres with p <= .05, corrected over voxels (maximum statistic)" in answer
    assert "somewhere within the radius" in answer
    assert "Null distribution: median over centres of its mean 0.524 (roc_auc). " in answer
    peaks = next(block for block in sections["peaks"].blocks if isinstance(block, DataTable))
    assert peaks.table["p corrected"].tolist() == [0.025]
    assert "p (not corrected)" in peaks.table
    assert [type(block) for block in sections["map"].blocks] == [Drawing]
    assert sum(isinstance(block, Frame) for block in sections["brain"].blocks) == 2
    assert "a caution of the design" in words_of(sections["test"])


def test_the_page_of_a_leaky_run_reads_scores_against_the_null_distribution(store):
    run = store()
    leaky = replace(run, tags=run.tags | {AUDIT_TAG: "leak"})
    answer = words_of(sections_of(leaky)["summary"])
    assert "its mean 0.524 (roc_auc); because of the leak, scores have to be read against it" in answer


def test_the_page_of_a_run_of_an_earlier_version_has_no_null_mean(store, tmp_path):
    run, file = store(), tmp_path / "map" / "searchlight.json"
    content = json.loads(file.read_text())
    assert content["test"].pop("median_null_mean") == 0.524
    file.write_text(json.dumps(content))
    answer = words_of(
        sections_of(replace(run, tags=run.tags | {FILES_TAG: write_digests(file.parent)}))["summary"]
    )
    assert "Highest accuracy" in answer
    assert "ull distribution" not in answer


def test_the_page_of_an_untested_map_has_no_test(store):
    sections = sections_of(store(tested=False))
    assert "not tested" in words_of(sections["summary"])
    assert sections["test"].blocks == ()
    assert sum(isinstance(block, Frame) for block in sections["brain"].blocks) == 1


def test_a_damaged_file_leaves_the_other_sections(store, tmp_path):
    run = store()
    (tmp_path / "map" / "peaks.csv").write_text("cut")
    sections = sections_of(run)
    assert "This section is missing" in words_of(sections["peaks"])
    assert "Highest accuracy" in words_of(sections["summary"])
    assert "peaks.csv" in words_of(sections["files"])


def test_a_score_of_0_is_drawn_as_a_centre(store):
    run = store(tested=False, scores=np.zeros(SHAPE))
    shown = show_stored(read_map(run))
    assert shown.centres.all()
    assert shown.scores.tolist() == np.zeros(SHAPE).tolist()


def test_a_stored_map_is_read_back_as_it_was_written(store):
    scores, z, p = make_maps()
    scores[0, 0, 0] = np.nan  # no centre
    found = read_map(store(scores=scores))
    centres = np.isfinite(scores)
    assert np.array_equal(found.to_volume(np.ones(len(found.voxels))) > 0, centres)
    assert found.scores.tolist() == scores[centres].tolist()
    assert found.p.tolist() == p[centres].tolist()
    assert found.kept[0].tolist() == z[centres].astype(np.float32).tolist()


@pytest.mark.slow
def test_the_page_is_written_with_its_figures(store, tmp_path):
    files = write_run_report(store(), NO_IMAGES, tmp_path / "page")
    assert {file.name for file in files} == {
        *("index.html", "score_map.png", "score_map.svg", "maxima.png", "maxima.svg"),
    }
    assert "could not be" not in (tmp_path / "page" / "index.html").read_text()


def test_a_sweep_of_searchlights_has_maps_and_no_sections_of_decodings(store, tmp_path):
    runs = [store("first"), store("second", subject="2"), store("third", tested=False, subject="3")]
    sections = {section.anchor: section for section in describe_runs(runs)[1]}
    assert set(sections) == {"summary", "maps", "audit", "map-methods"}
    figure, table = sections["maps"].blocks
    assert isinstance(figure, Drawing)
    assert table.table["centres with p <= .05, corrected"].tolist() == ["1", "1", "-"]
    assert "Worst verdicts of 3 runs: 3 caution" in words_of(sections["audit"])
    write_sweep_report("three", runs, tmp_path / "page")
    assert "could not be" not in (tmp_path / "page" / "index.html").read_text()


def test_a_mixed_sweep_has_the_sections_of_both(store, tmp_path):
    runs = [store(), write_run(tmp_path / "decoding")]
    sections = {section.anchor: section for section in describe_runs(runs)[1]}
    assert {"maps", "scores", "methods", "map-methods", "runs"} <= set(sections)
    assert not any("missing" in words_of(sections[name]) for name in ("maps", "scores", "methods"))
    assert len(sections["runs"].blocks[0].table) == 1


def test_a_sweep_of_decodings_has_no_section_of_maps(tmp_path):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", subject="2")]
    assert not {"maps", "map-methods"} & {section.anchor for section in describe_runs(runs)[1]}


def write_text(correction="maximum", tested=True, **options):
    config = make_config(
        analysis=ANALYSIS | {"correction": correction},
        inference={"kind": "permutation", "n": 1000} if tested else {"kind": "none"},
        roi={"mask": "brain"},
        **options,
    )
    record = {"n_spheres": 500, "n_small": 3, "sphere_sizes": {"smallest": 10, "median": 81, "largest": 93}}
    method = "enumerated" if tested else ""
    params = {
        "dataset": "haxby",
        "subject": "1",
        "n_samples": "216",
        "n_folds": "12",
        "contrast": "face_vs_cat",
    }
    facts = MethodFacts(config, params, {"nilearn": "0.14.1"}, n_relabellings=2048, inference_method=method)
    return write_searchlight_methods(facts, record)


def test_methods_describe_spheres_estimator_and_test():
    methods = write_text()
    text = "\n".join(methods.paragraphs)
    for expected in (
        "A searchlight (Kriegeskorte et al. 2006) was moved over the 500 voxels of the region brain",
        "at most 8 mm from its centre",
        "10 to 93 voxels, median 81",
        "(3 centres)",
        "a linear support vector machine",
        "C = 1",
        "all 2048 distinct relabellings",
        "largest z of the map (Nichols and Holmes 2002)",
        "The smallest possible p is 0.00049",
    ):
        assert expected in text
    assert "{" not in text
    for key in ("searchlight", "searchlight-reading", "maximum"):
        assert REFERENCES[key] in methods.references


@pytest.mark.parametrize(
    ("correction", "expected"), [("tfce", "Smith and Nichols 2009"), ("cluster_size", "z above 3.09")]
)
def test_methods_describe_the_chosen_correction(correction, expected):
    methods = write_text(correction)
    assert expected in "\n".join(methods.paragraphs)
    assert (REFERENCES["tfce"] in methods.references) == (correction == "tfce")


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("ExactRidgeClassifierCV", {"alphas": [10.0]}, "a ridge classifier with a penalty of alpha = 10."),
        ("ExactLogisticRegressionCV", {"Cs": [0.1], "cv": 5}, "(solved to its optimum) with C = 0.1."),
        ("ExactLinearSVC", {"grid": {"C": [1.0]}}, "(C = 1)."),
    ],
)
def test_methods_state_no_choice_from_a_single_penalty(name, values, words):
    estimator = {"_target_": f"harness.solvers.estimators.{name}", "grid": {}} | values
    text = "\n".join(write_text(estimator=estimator).paragraphs)
    assert words in text
    assert "chosen from" not in text


def test_methods_state_a_choice_in_every_sphere():
    node = {
        "_target_": "harness.solvers.estimators.ExactRidgeClassifierCV",
        "alphas": [0.1, 10.0],
        "grid": {},
    }
    words = (
        "(the penalty was chosen from 0.1, 10 inside the training volumes by exact leave-one-out, in every"
    )
    assert words in "\n".join(write_text(estimator=node).paragraphs)


def test_methods_of_nilearns_searchlight_name_no_other_decoder():
    text = "\n".join(write_text(engine="nilearn").paragraphs)
    assert "The spheres were decoded by nilearn's SearchLight." in text
    assert "nilearn's Decoder" not in text


def test_methods_of_an_untested_map_name_no_test():
    methods = write_text(tested=False)
    assert "No significance test of the map was made." in methods.paragraphs
    assert REFERENCES["maximum"] not in methods.references


def test_methods_without_a_configuration_are_written():
    assert write_searchlight_methods(MethodFacts({}, {}, {}), {}).paragraphs


def test_the_record_can_be_written_as_json(data):
    result = make_result(data, *make_maps())
    result = replace(result, settings=replace(result.settings, processes=2))
    content = make_record(result, list_peaks(result))
    assert json.loads(json.dumps(content)) == content
