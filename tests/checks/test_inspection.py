"""What is seen before decoding, against numpy on the whole image; and a page that needs nothing else."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import MNI152_FILE_PATH
from nilearn.image import index_img, mean_img, smooth_img
from scipy.stats import median_abs_deviation

from harness.app.verbs import run_verb
from harness.app.verbs.inspect import name_page
from harness.checks.inspection import find_outliers, guess_brain, inspect_recording
from harness.datasets.haxby import Haxby, read_labels
from harness.datasets.simulated import Simulated
from harness.errors import DataError
from harness.report.inspection_page import draw_template, write_page
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi
from harness.samples.signal import Signal

FACE_CAT = make_contrast(["face", "cat"])


def look(recording, contrast=FACE_CAT, roi="vt", **signal):
    return inspect_recording(recording, contrast, Roi(roi), Signal(**signal))


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return draw_template(tmp_path_factory.mktemp("template"))


@pytest.fixture(autouse=True)
def draw_the_template_once(template, monkeypatch):
    """It takes two seconds, and is the same on every page."""

    def copy(folder):
        return tuple(Path(shutil.copy(file, folder)) for file in template)

    monkeypatch.setattr("harness.report.inspection_page.draw_template", copy)


@pytest.fixture(scope="module")
def tiny(tiny_subject):
    """A small subject, with one voxel of its third volume far off and its image as an array."""
    data_dir = tiny_subject(shape=(8, 6, 5))
    bold = data_dir / "haxby2001" / "subj1" / "bold.nii.gz"
    image = nib.load(bold)
    data = np.asarray(image.dataobj).copy()
    data[..., 7] += 150
    nib.save(nib.Nifti1Image(data, image.affine), bold)
    recording = Haxby(data_dir).load(1)
    return recording, data.astype(np.float64), recording.labels["run"].to_numpy()


def test_quality_is_numpys_on_the_whole_image(tiny):
    recording, data, runs = tiny
    inspection = look(recording)
    vt = np.asarray(nib.load(recording.masks["vt"]).dataobj) != 0
    np.testing.assert_allclose(inspection.global_signal, data.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(inspection.mean_volume, data.mean(axis=3), rtol=1e-6)
    for run in np.unique(runs):
        here = data[..., runs == run]
        mean, sd = here.mean(axis=3), here.std(axis=3, ddof=1)
        change = 100 * np.sqrt((np.diff(here, axis=3) ** 2).mean(axis=(0, 1, 2))) / here.mean()
        row = inspection.quality.loc[run]
        assert row["volumes"] == here.shape[3]
        np.testing.assert_allclose(row["mean"], here.mean())
        np.testing.assert_allclose(row["sd"], np.median(sd))
        np.testing.assert_allclose(row["tsnr"], np.median(mean / sd))
        np.testing.assert_allclose(row["tsnr_roi"], np.median((mean / sd)[vt]))
        np.testing.assert_allclose(row["dvars"], np.median(change))
        dvars = inspection.dvars[runs == run]
        assert np.isnan(dvars[0])
        np.testing.assert_allclose(dvars[1:], change)
    assert inspection.outliers[7]
    assert inspection.quality["outliers"].sum() == inspection.outliers.sum() < 10


def test_outliers_are_iglewicz_and_hoaglins(rng):
    values, runs = rng.normal(size=80), np.repeat([0, 1], 40)
    values[[3, 50]], values[60], values[0] = 9, -9, np.nan
    expected = np.zeros(80, dtype=bool)
    for run in (0, 1):
        rows = np.flatnonzero((runs == run) & np.isfinite(values))
        mad = median_abs_deviation(values[rows], scale="normal")  # MAD / 0.6745
        expected[rows] = np.abs(values[rows] - np.median(values[rows])) / mad > 3.5
    assert {3, 50, 60} <= set(np.flatnonzero(expected))
    np.testing.assert_array_equal(find_outliers(values, runs, sides="both"), expected)
    np.testing.assert_array_equal(find_outliers(values, runs, sides="high"), expected & (values > 0))
    assert not find_outliers(np.ones(80), runs, sides="both").any()


def test_strip_design_and_shapes(tiny):
    recording, data, _ = tiny
    inspection = look(recording)
    n_volumes = data.shape[3]
    assert len(inspection.strip) == 6
    assert {0, n_volumes - 1} <= set(inspection.strip)
    for index, volume in inspection.strip.items():
        expected = np.asarray(index_img(str(recording.bold), index).dataobj)
        np.testing.assert_array_equal(volume, expected)
    for (run, condition), rows in recording.labels.groupby(["run", "condition"]):
        assert inspection.conditions.loc[run, condition] == len(rows)
    assert inspection.conditions.to_numpy().sum() == n_volumes
    selected = np.flatnonzero(recording.labels["condition"].isin(["face", "cat"]))
    np.testing.assert_array_equal(inspection.selected, selected)
    shapes = inspection.shapes.set_index("what")
    assert shapes.loc["labels"].tolist() == [(n_volumes,), (len(selected),)]
    assert shapes.loc["image"].tolist() == [(8, 6, 5, n_volumes), (8, 6, 5, len(selected))]


def test_the_real_slice_has_the_tutorials_shapes(shared_data):
    recording = Haxby(shared_data / "haxby2001-slice").load(1)
    inspection = look(recording)
    shapes = {what: (before, after) for what, before, after in inspection.shapes.to_numpy()}
    assert shapes["labels"] == ((1452,), (216,))
    assert shapes["image"] == ((40, 20, 1, 1452), (40, 20, 1, 216))
    assert shapes["voxels of vt: what is decoded"] == ((1452, 98), (216, 98))
    assert inspection.header_t_r == 2.5
    assert inspection.quality_mask.sum() == 530
    expected = np.asarray(mean_img(str(recording.bold), copy_header=True).dataobj)
    np.testing.assert_allclose(inspection.mean_volume, expected, rtol=1e-5)
    assert inspection.notices == ()


def test_an_image_that_is_zero_outside_the_roi_has_the_roi_for_its_brain(shared_data):
    recording = Haxby(shared_data / "haxby2001-vt").load(1)
    inspection = look(recording)
    assert (inspection.quality_mask <= inspection.roi_mask).all()
    assert inspection.quality_mask.sum() > 0.9 * 577
    assert dict(inspection.shapes[["what", "after"]].to_numpy())["image"] == (40, 64, 64, 216)


def test_brain_is_guessed_as_feat_does(rng):
    volume = np.r_[np.zeros(100), rng.uniform(0, 40, 300), rng.uniform(500, 1000, 600)].reshape(10, 10, 10)
    np.testing.assert_array_equal(guess_brain(volume).ravel()[100:], volume.ravel()[100:] > 100)
    assert not guess_brain(volume).ravel()[:100].any()
    assert guess_brain(np.full((2, 2, 2), 7)).all()
    with pytest.raises(DataError, match="nothing to look at"):
        guess_brain(np.zeros((2, 2, 2)))


def test_a_run_without_labels_is_said(tiny, shared_data, tmp_path, rng):
    """Subject 5 of the real data has no labels in run 8."""
    labels = shared_data / "labels" / "subj5" / "labels.txt"
    expected = np.loadtxt(labels, dtype=str, skiprows=1)
    empty = [run for run in range(12) if set(expected[expected[:, 1] == str(run), 0]) == {"rest"}]
    assert len(empty) == 1
    table = read_labels(labels)
    file = tmp_path / "bold.nii.gz"
    nib.save(nib.Nifti1Image(rng.integers(1, 99, (3, 3, 3, len(table))).astype(np.int16), np.eye(4)), file)
    recording = replace(tiny[0], bold=file, labels=table, masks={}, subject=5)
    inspection = look(recording)
    for name in ("face", "cat"):
        assert f"no volume of {name!r} in run {empty[0]}" in inspection.notices
    files = write_page(inspection, tmp_path / "page", "")
    assert "design.png" in {file.name for file in files}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"roi": "face"}, "roi.mask='face' is neither"),
        ({"contrast": make_contrast(["face", "shoe"])}, "a run would fail: contrast.conditions: 'shoe'"),
    ],
)
def test_what_a_run_would_refuse_is_a_notice(tiny, tmp_path, change, text):
    inspection = look(tiny[0], **change)
    assert sum(text in notice for notice in inspection.notices) == 1
    page, *_ = write_page(inspection, tmp_path, "")
    assert text.replace("'", "&#x27;") in page.read_text()


def test_masks_of_another_shape_are_said_and_not_used(tiny, tmp_path):
    recording = tiny[0]
    other = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), dtype=np.uint8), np.eye(4)), other)
    inspection = look(replace(recording, masks={"brain": other, "vt": other}))
    assert inspection.roi_mask is None
    assert any("(3, 3, 3)" in notice for notice in inspection.notices)
    assert inspection.quality["tsnr_roi"].isna().all()
    write_page(inspection, tmp_path, "")


@pytest.mark.parametrize("damage", ["cut short", "without checksum", "4D"])
def test_anatomy_that_cannot_be_read_is_a_notice(tiny, tmp_path, damage):
    recording = tiny[0]
    anat = tmp_path / "anat.nii.gz"
    shape = nib.load(recording.bold).shape[:3] + ((2,) if damage == "4D" else ())
    values = np.random.default_rng(0).normal(500, 100, shape).astype(np.float32)
    nib.save(nib.Nifti1Image(values, nib.load(recording.bold).affine), anat)
    content = anat.read_bytes()
    if damage == "cut short":
        anat.write_bytes(content[: len(content) // 2])
    elif damage == "without checksum":
        anat.write_bytes(content[:-8])
    inspection = look(replace(recording, anat=anat))
    assert sum(f"not shown: {anat}: " in notice for notice in inspection.notices) == 1
    files = write_page(inspection, tmp_path / "page", "")
    assert "anatomy.png" not in {file.name for file in files}


def test_a_recording_of_which_nobody_knows_the_tr(tiny, tmp_path):
    page, *_ = write_page(look(replace(tiny[0], t_r=None)), tmp_path, "")
    assert "not known" in page.read_text()


def test_several_images_are_looked_at_as_one(tiny, tmp_path):
    recording, data, _ = tiny
    parts = []
    for name, part in (("a", data[..., :20]), ("b", data[..., 20:])):
        parts.append(tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(part.astype(np.int16), nib.load(recording.bold).affine), parts[-1])
    several, one = look(replace(recording, bold=tuple(parts))), look(recording)
    np.testing.assert_array_equal(several.global_signal, one.global_signal)
    np.testing.assert_array_equal(several.dvars, one.dvars)
    assert several.files["what"].tolist()[:2] == ["image", "image"]
    page, *_ = write_page(several, tmp_path / "page", "")
    assert "a.nii.gz and 1 more" in page.read_text()


def test_values_that_are_not_finite_are_counted(tiny, tmp_path):
    recording, data, _ = tiny
    file = tmp_path / "nan.nii.gz"
    broken = data.astype(np.float32)
    broken[0, 0, 0, :3] = np.nan
    nib.save(nib.Nifti1Image(broken, nib.load(recording.bold).affine), file)
    inspection = look(replace(recording, bold=file))
    assert any(notice.startswith("3 values of the image are NaN") for notice in inspection.notices)
    assert np.isfinite(inspection.global_signal).all()


def test_labels_and_volumes_must_be_equally_many(tiny):
    recording = tiny[0]
    for labels in (recording.labels.iloc[:-1], recording.labels.loc[[*recording.labels.index, 59]]):
        with pytest.raises(DataError, match=f"has {len(labels)} rows, but .* has {len(recording.labels)}"):
            look(replace(recording, labels=labels.reset_index(drop=True)))


def test_memory_does_not_grow_with_the_volumes(tiny_subject):
    peaks = []
    for block in (8, 32):
        recording = Haxby(tiny_subject(shape=(40, 40, 20), block=block)).load(1)
        tracemalloc.start()
        # A question that cannot be asked, so that the samples themselves do not count.
        look(recording, contrast=make_contrast(["face", "nothing"]))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# The page ---------------------------------------------------------------------------------------------------


def test_the_template_is_smoothed_written_and_read_back(template):
    picture, image = template
    assert picture.stat().st_size > 10_000
    expected = np.asarray(smooth_img(MNI152_FILE_PATH, fwhm=3).dataobj)
    written = nib.load(image)
    # The file keeps the template's 8 bits.
    atol = 0.51 * expected.max() / 255
    np.testing.assert_allclose(np.asarray(written.dataobj), expected, rtol=0, atol=atol)


def assert_needs_nothing_else(page):
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 3e6
    # Whatever a browser would fetch: sources, style sheets, imports.
    for source in re.findall(r"""(?:src|href)=(?:"|'|&quot;)([^"'&]*)""", text):
        assert source.startswith(("data:", "#")) or not source, source[:80]
    assert "@import" not in text
    return text


def test_page_of_the_simulated_subject(simulated_cache, tmp_path):
    recording = Simulated().load(2)
    files = write_page(look(recording), tmp_path / "new" / "page", "python -m harness subject=2")
    assert {file.name for file in files} == {
        "index.html",
        "template.png",
        "template_smoothed_3mm.nii.gz",
        "anatomy.png",
        "mean_volume.png",
        "roi.png",
        "design.png",
        "volumes.png",
        "quality.png",
    }
    assert all(file.stat().st_size > 3000 for file in files)
    text = assert_needs_nothing_else(files[0])
    for words in (
        "SIMULATED",
        "srcdoc=",
        "(38, 47, 7, 1452)",
        "(38, 47, 7, 216)",
        "python -m harness subject=2",
    ):
        assert words in text, words


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "interactive"), [("haxby2001-slice", False), ("haxby2001-vt", True)])
def test_page_of_real_data_without_anatomy(shared_data, tmp_path, folder, interactive):
    files = write_page(look(Haxby(shared_data / folder).load(1)), tmp_path, "")
    assert "anatomy.png" not in {file.name for file in files}
    text = assert_needs_nothing_else(files[0])
    assert ("srcdoc=" in text) == interactive


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "$x_{$", "</td><img/src=x>", "&lt;b&gt;"])
def test_the_page_shows_a_name_as_it_is(tiny_subject, tmp_path, name):
    elements, texts = {}, []
    for shown in ("face", name):
        recording = Haxby(tiny_subject(conditions=(shown, "house"))).load(1)
        recording = replace(recording, dataset=shown, notice=f"notice {shown}", masks={})
        inspection = look(recording, make_contrast([shown, "house"]), roi=f"{shown}.nii.gz")
        home = tmp_path / str(len(elements))
        page, *_ = write_page(inspection, home, f"python -m harness {shown}")
        reader, found = HTMLParser(), []
        reader.handle_starttag = lambda tag, attrs, found=found: found.append(tag)
        reader.handle_data = texts.append
        reader.feed(page.read_text(encoding="utf-8"))
        elements[shown] = found
    assert elements[name] == elements["face"]
    assert sum(text.strip() == name for text in texts) >= 3  # conditions in the tables
    assert {f"notice {name}", f"python -m harness {name}", f"{name} subject 1"} <= {*texts}


# The verb ---------------------------------------------------------------------------------------------------


def test_the_verb_takes_a_runs_overrides_and_says_where_the_page_is(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data_dir = tiny[0].bold.parents[2]
    asked = ["dataset=haxby", f"dataset.data_dir={data_dir}", "subject=1", "contrast=face_vs_house"]
    assert run_verb(["inspect", *asked]) == 0
    (page,) = (tmp_path / "mlruns" / "inspect").glob("haxby_sub-1_face_vs_house_vt-*/index.html")
    printed = capsys.readouterr().out
    assert f"page     {page}" in printed
    assert str(page.with_name("design.png")) in printed
    assert "face_vs_house" in page.read_text()
    assert run_verb(["inspect", "--out", "here", *asked]) == 0
    assert (tmp_path / "here" / "index.html").is_file()


def inspect_tiny(data_dir, *asked):
    asked = ["dataset=haxby", "subject=1", f"dataset.data_dir={data_dir}", *asked]
    assert run_verb(["inspect", *asked]) == 0


def read_pages(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_every_question_has_a_page_of_its_own(tiny_subject, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.report.inspection_page.draw_roi", lambda inspection, file: None)
    first, second = (tiny_subject(shape=(4, 4, 3), seed=seed) for seed in (1, 2))
    roi = tmp_path / "vt.nii.gz"
    shutil.copy(first / "haxby2001" / "mask.nii.gz", roi)
    questions = [
        (first, []),
        (second, []),
        (first, ["contrast=face_vs_house"]),
        (first, ["roi=brain"]),
        (first, [f"roi.mask={roi}"]),  # another mask of the same name
        (first, ["signal.lag=1"]),
    ]
    pages = {}
    for data_dir, asked in questions:
        inspect_tiny(data_dir, *asked)
        now = read_pages(tmp_path / "mlruns")
        assert pages.items() <= now.items(), "an older page was changed"
        pages = now
    assert sum(file.name == "index.html" for file in pages) == len(questions)
    # What does not change the page does not make another.
    inspect_tiny(first, "estimator=lda", "cv=kfold5", "signal=tutorial", "figures=off")
    assert set(read_pages(tmp_path / "mlruns")) == set(pages)


def test_a_page_that_is_written_again_keeps_no_old_picture(tiny_subject, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data_dir = tiny_subject(shape=(4, 4, 3))
    anatomy = data_dir / "haxby2001" / "subj1" / "anat.nii.gz"
    shutil.copy(data_dir / "haxby2001" / "mask.nii.gz", anatomy)
    inspect_tiny(data_dir)
    (page,) = (tmp_path / "mlruns").rglob("index.html")
    assert page.with_name("anatomy.png").is_file()
    anatomy.unlink()
    inspect_tiny(data_dir)
    assert not page.with_name("anatomy.png").exists()
    assert not list(page.parent.glob(".*"))


def test_files_of_other_people_in_the_folder_stay(tiny, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "sub").mkdir()
    for _ in range(2):
        write_page(look(tiny[0]), tmp_path, "")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "sub").is_dir()


@pytest.mark.parametrize("name", ["template", "mean_volume", "quality"])
def test_a_page_that_is_interrupted_leaves_the_old_one_whole(tiny, tmp_path, monkeypatch, name):
    write_page(look(tiny[0]), tmp_path, "the old page")
    before = read_pages(tmp_path)
    with monkeypatch.context() as patch:

        def stop(*arguments):
            raise KeyboardInterrupt

        drawing = {"template": "draw_template", "mean_volume": "draw_mean_volume", "quality": "draw_quality"}
        patch.setattr(f"harness.report.inspection_page.{drawing[name]}", stop)
        with pytest.raises(KeyboardInterrupt):
            write_page(look(replace(tiny[0], anat=tiny[0].masks["brain"])), tmp_path, "the new page")
    assert read_pages(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_what_a_killed_page_left_behind_is_removed_by_the_next(tiny, tmp_path):
    write_page(look(tiny[0]), tmp_path, "the old page")
    before = read_pages(tmp_path)
    code = (
        "import os, signal, sys\nfrom harness.report import inspection_page\n"
        "def kill(folder): os.kill(os.getpid(), signal.SIGKILL)\n"
        "inspection_page.draw_template = kill\n"
        "from harness.app.verbs import run_verb\nrun_verb(sys.argv[1:])"
    )
    asked = ["inspect", "dataset=haxby", "subject=1", f"dataset.data_dir={tiny[0].bold.parents[2]}"]
    process = subprocess.run([sys.executable, "-c", code, *asked, "--out", str(tmp_path)], timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert {file: content for file, content in read_pages(tmp_path).items() if file in before} == before
    (left,) = tmp_path.glob(".*")
    os.utime(left, (0, 0))  # long ago: no process is at work there any more
    write_page(look(tiny[0]), tmp_path, "the old page")
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in before}


def test_the_verb_on_somebodys_study_of_one_image_per_run(nifti_study, tmp_path, capsys):
    asked = [
        "dataset=nifti",
        f"dataset.bold='{nifti_study}/sub-{{subject:02d}}/run-*.nii.gz'",
        f"dataset.events='{nifti_study}/sub-{{subject:02d}}/events-*.tsv'",
        f"roi.mask={nifti_study}/sub-01/vt.nii.gz",
        "subject=1",
    ]
    assert run_verb(["inspect", *asked, "--out", str(tmp_path / "page")]) == 0
    text = (tmp_path / "page" / "index.html").read_text()
    for words in ("run-0.nii.gz and 2 more", "(6, 5, 4, 33)", "(6, 5, 4, 99)", "(99, 60)", "2 s"):
        assert words in text, words
    assert "fail" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("contrast.conditions=[{1:[face],b:[cat]},house]", "contrast.conditions=[{1:[face]},house]", False),
        ("signal.high_pass=1", "signal.high_pass=1.0", True),
        ("signal.detrend=false", "roi.screening_percentile=20", True),
        ("signal.detrend=true", "signal.detrend=false", False),
    ],
)
def test_one_question_has_one_page(compose, one, other, same):
    requests = [compose(word) for word in (one, other)]
    names = {name_page(request, request.dataset.load(request.subject)) for request in requests}
    assert len(names) == (1 if same else 2)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["roi=vtt"], 2, "Did you mean 'vt'?"),
        (["subject=1,2"], 2, "has 2 combinations of values"),
        (["cv.random_state=glob(*)"], 2, "'cv.random_state=glob(*)' has no value"),
        (["contrast=[[null]]"], 2, "unknown option 'contrast=[[null]]'"),
        (["hydra/launcher=joblib"], 2, "has no effect on one run"),
        (["dataset=haxby", "subject=9"], 1, "subjects 1 to 6"),
        (["--out", "file"], 2, "cannot be written"),
    ],
)
def test_the_verb_refuses_in_one_message(
    tmp_path, monkeypatch, capsys, arguments, status, text, simulated_cache
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert run_verb(["inspect", *arguments]) == status
    assert text in capsys.readouterr().err
    shutil.rmtree(tmp_path, ignore_errors=True)
