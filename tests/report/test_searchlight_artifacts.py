"""The files of a searchlight hold its maps, in the right place, and its peaks."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from searchlight_results import N_RELABELLINGS, make_result

from harness.checks.findings import Finding, Verdict
from harness.report.searchlight_artifacts import write_searchlight
from harness.report.searchlight_peaks import list_peaks

SHAPE = (7, 6, 5)
AFFINE = np.array([[-4.0, 0, 0, 20], [0, 3, 0, -30], [0, 0, 5, -40], [0, 0, 0, 1]])
FINDING = Finding("runs_split", Verdict.ok, "not split.", "nowhere")
PEAK, SECOND = (1, 1, 1), (5, 4, 3)


@pytest.fixture(scope="module")
def data(tiny_subject):
    data = tiny_subject(shape=SHAPE, affine=AFFINE)
    home = data / "haxby2001"
    for file in (home / "mask.nii.gz", home / "subj1" / "bold.nii.gz"):
        image = nib.load(file)
        image.set_sform(AFFINE, 4)  # MNI
        nib.save(image, file)
    return data


@pytest.fixture(scope="module")
def maps():
    """Scores, z and corrected p with two clusters: three voxels in a row, and a single one."""
    scores = np.full(SHAPE, 0.5)
    scores[0, 0, 0] = np.nan  # not a centre
    z, p_fwe = np.zeros(SHAPE), np.ones(SHAPE)
    for voxel, value in ((PEAK, 5.0), ((2, 1, 1), 4.5), ((3, 1, 1), 3.5), (SECOND, 4.2)):
        z[voxel], scores[voxel] = value, 0.5 + value / 20
        p_fwe[voxel] = 0.05 if value > 4.1 else 0.3
    return scores, z, p_fwe


@pytest.fixture(scope="module")
def written(data, maps, tmp_path_factory):
    """The directory of a tested map, written without figures."""
    directory = tmp_path_factory.mktemp("tested")
    write_searchlight(make_result(data, *maps), (FINDING,), directory, "a: 1\n", "off")
    return directory


def read(directory, name):
    return np.asarray(nib.load(directory / f"{name}_face_vs_cat.nii.gz").dataobj)


def test_images_hold_the_maps_in_the_centres(written, maps):
    scores, z, p_fwe = maps
    is_centre = np.isfinite(scores)
    assert np.array_equal(read(written, "searchlight"), np.nan_to_num(scores))
    assert np.array_equal(read(written, "searchlight_z"), np.where(is_centre, z, 0))
    null_means = np.where(z > 0, 0.534, 0.524)  # as in searchlight_results.py
    np.testing.assert_allclose(read(written, "searchlight_null_mean"), np.where(is_centre, null_means, 0))
    assert np.array_equal(read(written, "searchlight_p_fwe"), np.where(is_centre, p_fwe, 1))
    assert read(written, "searchlight_p")[0, 0, 0] == 1
    assert read(written, "searchlight_p")[PEAK] == 1 / N_RELABELLINGS


def test_the_thresholded_map_keeps_scores_whose_p_is_exactly_05(written, maps):
    scores, _, p_fwe = maps
    expected = np.where(p_fwe <= 0.05, scores, 0)
    assert np.array_equal(read(written, "searchlight_thresholded"), expected)
    assert np.count_nonzero(expected) == 3


def test_images_have_the_space_of_the_recording_and_name_what_they_show(written):
    image = nib.load(written / "searchlight_p_fwe_face_vs_cat.nii.gz")
    assert np.allclose(image.affine, AFFINE)
    assert int(image.header["sform_code"]) == 4
    assert image.header.get_xyzt_units()[0] == "mm"
    assert b"p, corrected over voxels: maximum" in image.header["descrip"].tobytes()
    assert (float(image.header["cal_min"]), float(image.header["cal_max"])) == pytest.approx((0, 0.05))


def test_a_sheared_affine_is_kept_without_a_qform(tiny_subject, tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.8
    data = tiny_subject(shape=(4, 4, 3), affine=sheared)
    write_searchlight(make_result(data), (), tmp_path, "", "off")
    image = nib.load(tmp_path / "searchlight_face_vs_cat.nii.gz")
    assert np.allclose(image.affine, sheared)
    assert int(image.header["qform_code"]) == 0


def test_peaks_are_in_millimetres_with_the_values_of_their_voxels(written):
    peaks = pd.read_csv(written / "peaks.csv")
    voxel_volume = 4 * 3 * 5
    assert peaks["cluster"].astype(str).tolist() == ["1", "2"]
    first, second = peaks.to_dict("records")
    assert [first[f"{axis}_mm"] for axis in "xyz"] == [20 - 4, -30 + 3, -40 + 5]
    assert [second[f"{axis}_mm"] for axis in "xyz"] == [20 - 5 * 4, -30 + 4 * 3, -40 + 3 * 5]
    assert (first["z"], first["score"], first["p_fwe"]) == (5.0, 0.75, 0.05)
    assert first["p"] == 1 / N_RELABELLINGS
    assert (first["cluster_mm3"], second["cluster_mm3"]) == (3 * voxel_volume, voxel_volume)


def test_peaks_of_an_untested_map_are_those_of_its_highest_scores(data, maps):
    peaks = list_peaks(make_result(data, maps[0]))
    assert peaks.quantity == "score"
    assert peaks.table["score"].tolist() == [0.75, 0.71]
    assert not {"z", "p", "p_fwe"} & set(peaks.table)


@pytest.mark.parametrize("score", [0.2, 0.5, 1.0])
def test_a_map_without_a_peak_lists_its_highest_voxel(data, score):
    scores = np.full(SHAPE, np.nan)
    scores[3, 2, 1] = score
    table = list_peaks(make_result(data, scores)).table
    assert table[["x_mm", "y_mm", "z_mm"]].to_numpy().tolist() == [[20 - 12, -30 + 6, -40 + 5]]
    assert table["score"].tolist() == [score]


def test_the_record_counts_spheres_and_corrected_voxels(written, maps):
    record = json.loads((written / "searchlight.json").read_text())
    assert record["n_spheres"] == np.prod(SHAPE) - 1
    assert record["n_small"] == 2
    assert record["chance"] == 0.5
    assert record["scores"]["accuracy"]["max"] == 0.75
    maximum = record["test"]["corrections"]["maximum"]
    assert maximum["n_corrected"] == 3
    assert maximum["threshold"] == 4.0
    assert record["test"]["smallest_p"] == 1 / N_RELABELLINGS


def test_kept_maps_name_their_voxels_and_relabellings(written, maps):
    with np.load(written / "relabelled_maps.npz") as kept:
        volume = np.zeros(kept["shape"])
        volume.flat[kept["voxels"]] = kept["maps"][0]
        assert np.array_equal(volume, np.where(np.isfinite(maps[0]), maps[1], 0).astype(np.float32))
        assert kept["rows"].tolist() == [0, 4, 9]
        assert np.allclose(kept["affine"], AFFINE)
    maxima = pd.read_csv(written / "searchlight_maxima.csv")
    assert len(maxima) == N_RELABELLINGS
    assert maxima["maximum"].iloc[0] == 5.0


def test_files_that_all_runs_have_are_written(written):
    assert json.loads((written / "audit.json").read_text())[0]["rule"] == "runs_split"
    assert (written / "config.yaml").read_text() == "a: 1\n"
    assert "nilearn" in (written / "environment.txt").read_text()
    assert not (written / "warnings.txt").exists()


def test_an_untested_map_has_no_files_of_a_test(data, maps, tmp_path):
    write_searchlight(make_result(data, maps[0]), (), tmp_path, "", "off")
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {
        *("searchlight_face_vs_cat.nii.gz", "centres.npz", "peaks.csv", "searchlight.json"),
        *("config.yaml", "environment.txt"),
    }


def test_a_chosen_correction_thresholds_the_map_and_has_an_image(data, maps, tmp_path):
    result = make_result(data, *maps, correction="tfce")
    write_searchlight(result, (), tmp_path, "", "off")
    assert (tmp_path / "searchlight_p_tfce_face_vs_cat.nii.gz").is_file()
    assert "p_tfce" in pd.read_csv(tmp_path / "peaks.csv")


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ("light", {"searchlight_face_vs_cat.png"}),
        pytest.param(
            "full",
            {
                *("searchlight_face_vs_cat.png", "searchlight_face_vs_cat.html", "searchlight_maxima.png"),
                "searchlight_thresholded_face_vs_cat.html",
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_figures_are_drawn_as_asked(data, maps, tmp_path, figures, expected):
    result = write_searchlight(make_result(data, *maps), (), tmp_path, "", figures)
    assert result.warnings == ()
    assert {file.name for file in tmp_path.iterdir() if file.suffix in (".png", ".html")} == expected


def test_a_figure_that_cannot_be_drawn_is_a_warning(data, maps, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no canvas")

    monkeypatch.setattr("harness.report.searchlight_figures.draw_score_maps", fail)
    result = write_searchlight(make_result(data, *maps), (), tmp_path, "", "light")
    assert result.warnings == ("searchlight_face_vs_cat.png could not be drawn: ValueError: no canvas",)
    assert (tmp_path / "warnings.txt").is_file()
    assert (tmp_path / "peaks.csv").is_file()


def test_undefined_scores_and_infinite_maxima_are_written(data, maps, tmp_path):
    """A fold without one of the classes has no score, and a relabelling without a statistic no maximum."""
    result = make_result(data, *maps)
    scores = {name: values.copy() for name, values in result.scores.items()}
    for values in scores.values():
        values[-1] = np.nan
    maxima = result.test.maxima.copy()
    maxima.iloc[3] = np.inf
    maximum = replace(result.test.corrected["maximum"], threshold=np.inf)
    test = replace(result.test, maxima=maxima, corrected={"maximum": maximum})
    written = write_searchlight(replace(result, scores=scores, test=test), (), tmp_path, "", "full")
    assert written.warnings == ()
    record = json.loads((tmp_path / "searchlight.json").read_text(), parse_constant=pytest.fail)
    assert record["test"]["corrections"]["maximum"]["threshold"] is None
    assert record["scores"]["accuracy"]["max"] == 0.75
    assert np.isfinite(read(tmp_path, "searchlight")).all()


def test_undefined_scores_are_no_peaks(data, maps):
    scores = maps[0].copy()
    result = make_result(data, scores)
    values = result.score_map.copy()
    values[3] = np.nan
    peaks = list_peaks(replace(result, scores={name: values for name in result.scores}))
    assert peaks.table["score"].tolist() == [0.75, 0.71]
