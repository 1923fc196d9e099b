"""The summary of a searchlight on the terminal."""

from dataclasses import replace

import numpy as np
import pytest
from searchlight_results import N_RELABELLINGS, make_result

from harness.checks.findings import Finding, Verdict
from harness.report.searchlight_summary import print_searchlight

SHAPE = (6, 5, 4)
FINDINGS = (Finding("class_order", Verdict.caution, "face is first.", "nowhere"),)


@pytest.fixture(scope="module")
def data(tiny_subject):
    return tiny_subject(shape=SHAPE)


@pytest.fixture
def summarise(data, capsys, monkeypatch):
    def summarise(*maps, width=160, hint="", findings=FINDINGS, **options):
        monkeypatch.setattr("harness.report.console.FILE_WIDTH", width)
        result = replace(make_result(data, *maps, **options), warnings=("one voxel is odd",))
        print_searchlight(result, findings, "sub-1 searchlight", "/runs/1", None, hint)
        return capsys.readouterr().out

    return summarise


def make_maps():
    rng = np.random.default_rng(0)
    scores = rng.normal(0.5, 0.02, SHAPE)
    scores[2, 2, 2] = 0.9
    z, p = np.zeros(SHAPE), np.ones(SHAPE)
    z[2, 2, 2], p[2, 2, 2] = 5.5, 0.025
    return scores, z, p


def test_a_tested_map_is_summarised(summarise):
    text = summarise(*make_maps())
    assert f"{N_RELABELLINGS} relabellings of the blocks (random) of roc auc" in text
    assert "smallest possible p: 0.025" in text
    assert "maximum statistic: 1 of 120 centres with p <= .05, smallest p 0.025, threshold 4" in text
    assert "somewhere within the radius" in text
    assert "120 of radius 8 mm, of 7 to 9 voxels (median 8), centres: brain; 2 left out" in text
    assert "highest 0.900" in text
    for expected in (
        "caution: a caution of the design",
        "class_order",
        "warning: one voxel is odd",
        "/runs/1",
    ):
        assert expected in text
    assert "5.50" in text


@pytest.mark.parametrize("verdict", [Verdict.ok, Verdict.caution, Verdict.leak])
def test_scores_are_read_against_the_null_distribution_where_there_is_a_leak(summarise, verdict):
    text = summarise(*make_maps(), findings=(Finding("blocks_split", verdict, "split.", "nowhere"),))
    words = "null distribution: median over centres of its mean 0.524 (roc_auc)"
    assert words in text
    leak = f"{words}; because of the leak, scores have to be read against it, not against nominal chance"
    assert (leak in " ".join(text.split())) == (verdict == Verdict.leak)


def test_an_untested_map_has_the_hint_and_no_p(summarise):
    text = summarise(make_maps()[0], hint="add inference=permutation")
    assert "add inference=permutation" in text
    assert "not tested" in text
    assert "p fwe" not in text


def test_a_tested_map_has_no_hint(summarise):
    assert "add inference" not in summarise(*make_maps(), hint="add inference=permutation")


@pytest.mark.parametrize("correction", ["maximum", "tfce", "cluster_size"])
def test_the_table_fits_80_columns(summarise, correction):
    text = summarise(*make_maps(), width=80, correction=correction)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_a_chosen_correction_comes_before_the_maximum(summarise):
    text = summarise(*make_maps(), correction="tfce")
    assert text.index("TFCE: 1 of 120") < text.index("maximum statistic: 1 of 120")
    assert "possibly farther away than the radius" in " ".join(text.split())


def test_many_peaks_are_cut(summarise):
    scores = np.full(SHAPE, 0.5)
    places = np.indices(SHAPE).sum(axis=0) % 2 == 0
    z = np.where(places, 5.0 + np.arange(np.prod(SHAPE)).reshape(SHAPE) / 1000, 0)
    text = summarise(scores, z, np.ones(SHAPE), radius=1.0)
    assert "more in peaks.csv" in text
