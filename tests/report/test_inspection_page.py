"""The page of an inspection: complete, standalone, and replaced as a whole."""

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import MNI152_FILE_PATH
from nilearn.image import smooth_img

from harness.app.verbs import run_verb
from harness.app.verbs.inspect import name_page
from harness.checks.inspection import inspect_recording
from harness.datasets.haxby import Haxby
from harness.datasets.simulated import Simulated
from harness.report import inspection_page
from harness.report.inspection_figures import draw_template
from harness.report.inspection_page import TEMPLATE_FILES, write_page
from harness.samples.contrasts import make_contrast
from harness.samples.samples import Roi
from harness.samples.signal import Signal
from marks import first

FACE_CAT = make_contrast(["face", "cat"])
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
)


def inspect(recording, contrast=FACE_CAT, roi="vt", **signal):
    return inspect_recording(recording, contrast, Roi(roi), Signal(**signal))


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return draw_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def template_drawn_once(template, monkeypatch):
    """It takes two seconds, and is the same on every page."""

    def copy(directory):
        return tuple(Path(shutil.copy(file, directory)) for file in template)

    monkeypatch.setattr(inspection_page, "draw_template", copy)


@pytest.fixture
def without_drawing(monkeypatch):
    """Every picture is one pixel, and there is no interactive view."""

    def write_pixel(inspection, file):
        file.write_bytes(PIXEL)
        return file

    def write_template(directory):
        return tuple(write_pixel(None, directory / name) for name in TEMPLATE_FILES)

    def write_anatomy(inspection, file):
        return None if inspection.recording.anat is None else write_pixel(inspection, file)

    for name in ("mean_volume", "roi", "design", "volumes", "quality"):
        monkeypatch.setattr(inspection_page, f"draw_{name}", write_pixel)
    monkeypatch.setattr(inspection_page, "draw_anatomy", write_anatomy)
    monkeypatch.setattr(inspection_page, "draw_template", write_template)
    monkeypatch.setattr(inspection_page, "render_mean_view", lambda inspection: None)


@pytest.fixture(scope="module")
def recording(tiny_subject):
    return Haxby(tiny_subject()).load(1)


@pytest.mark.slow
def test_the_template_is_smoothed_written_and_read_back(template):
    picture, image = template
    assert picture.stat().st_size > 10_000
    expected = np.asarray(smooth_img(MNI152_FILE_PATH, fwhm=3).dataobj)
    written = nib.load(image)
    # The file keeps the template's 8 bits.
    atol = 0.51 * expected.max() / 255
    np.testing.assert_allclose(np.asarray(written.dataobj), expected, rtol=0, atol=atol)


def assert_standalone(page):
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 3e6
    # Whatever a browser would fetch: sources, style sheets, imports.
    for source in re.findall(r"""(?:src|href)=(?:"|'|&quot;)([^"'&]*)""", text):
        assert source.startswith(("data:", "#")) or not source, source[:80]
    assert "@import" not in text
    return text


def test_page_with_its_real_pictures(recording, template_drawn_once, tmp_path):
    with_anatomy = replace(recording, anat=recording.masks["brain"])
    files = write_page(inspect(with_anatomy), tmp_path / "new" / "page", "python -m harness subject=1")
    assert {file.name for file in files} == set(inspection_page.PAGE_FILES)
    text = assert_standalone(files[0])
    assert text.count('<img alt="') == 6  # the mean volume is an interactive view
    assert "srcdoc=" in text
    assert "(6, 5, 4, 60)" in text


@pytest.mark.slow
def test_page_of_the_simulated_subject(simulated_cache, template_drawn_once, tmp_path):
    files = write_page(inspect(Simulated().load(2)), tmp_path / "page", "python -m harness subject=2")
    assert {file.name for file in files} == set(inspection_page.PAGE_FILES)
    text = assert_standalone(files[0])
    for words in ("SIMULATED", "srcdoc=", "(38, 47, 7, 1452)", "(38, 47, 7, 216)", "harness subject=2"):
        assert words in text, words


def test_an_unknown_repetition_time_is_shown_as_not_known(recording, without_drawing, tmp_path):
    page, *_ = write_page(inspect(replace(recording, t_r=None)), tmp_path, "")
    assert "not known" in page.read_text()


def test_notices_are_shown(recording, without_drawing, tmp_path):
    page, *_ = write_page(inspect(recording, make_contrast(["face", "shoe"])), tmp_path, "")
    assert '<div class="notice">a run would fail: contrast.conditions: &#39;shoe&#39;' in page.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "interactive"), [("haxby2001-slice", False), ("haxby2001-vt", True)])
def test_page_of_real_data_without_anatomy(shared_data, template_drawn_once, tmp_path, folder, interactive):
    files = write_page(inspect(Haxby(shared_data / folder).load(1)), tmp_path, "")
    assert "anatomy.png" not in {file.name for file in files}
    text = assert_standalone(files[0])
    assert ("srcdoc=" in text) == interactive


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "$x_{$", "</td><img/src=x>", "&lt;b&gt;"])
def test_the_page_shows_a_name_as_it_is(tiny_subject, without_drawing, tmp_path, name):
    elements, texts = {}, []
    for shown in ("face", name):
        recording = Haxby(tiny_subject(conditions=(shown, "house"))).load(1)
        recording = replace(recording, dataset=shown, notice=f"notice {shown}", masks={})
        inspection = inspect(recording, make_contrast([shown, "house"]), roi=f"{shown}.nii.gz")
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


def test_the_verb_takes_the_overrides_of_a_run_and_prints_the_path_of_the_page(
    recording, without_drawing, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data_dir = recording.bold.parents[2]
    overrides = ["dataset=haxby", f"dataset.data_dir={data_dir}", "subject=1", "contrast=face_vs_house"]
    assert run_verb(["inspect", *overrides]) == 0
    (page,) = (tmp_path / "mlruns" / "inspect").glob("haxby_sub-1_face_vs_house_vt-*/index.html")
    printed = capsys.readouterr().out
    assert f"page     {page}" in printed
    assert str(page.with_name("design.png")) in printed
    assert "face_vs_house" in page.read_text()
    assert run_verb(["inspect", "--out", "here", *overrides]) == 0
    assert (tmp_path / "here" / "index.html").is_file()


def inspect_tiny(data_dir, *overrides):
    overrides = ["dataset=haxby", "subject=1", f"dataset.data_dir={data_dir}", *overrides]
    assert run_verb(["inspect", *overrides]) == 0


def read_pages(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_every_question_has_a_page_of_its_own(tiny_subject, without_drawing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
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
    for data_dir, overrides in questions:
        inspect_tiny(data_dir, *overrides)
        now = read_pages(tmp_path / "mlruns")
        assert pages.items() <= now.items(), "an older page was changed"
        pages = now
    assert sum(file.name == "index.html" for file in pages) == len(questions)
    # What does not change the page does not make another.
    inspect_tiny(first, "estimator=lda", "cv=kfold5", "signal=tutorial", "figures=off")
    assert set(read_pages(tmp_path / "mlruns")) == set(pages)


def test_a_page_that_is_written_again_keeps_no_old_picture(
    tiny_subject, without_drawing, tmp_path, monkeypatch
):
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


def test_other_files_in_the_directory_stay(recording, without_drawing, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "sub").mkdir()
    for _ in range(2):
        write_page(inspect(recording), tmp_path, "")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "sub").is_dir()


@pytest.mark.parametrize("name", ["template", "mean_volume", "quality"])
def test_an_interrupted_page_leaves_the_old_one_complete(
    recording, without_drawing, tmp_path, monkeypatch, name
):
    write_page(inspect(recording), tmp_path, "the old page")
    before = read_pages(tmp_path)
    with monkeypatch.context() as patch:

        def stop(*arguments):
            raise KeyboardInterrupt

        patch.setattr(inspection_page, f"draw_{name}", stop)
        with pytest.raises(KeyboardInterrupt):
            write_page(inspect(replace(recording, anat=recording.masks["brain"])), tmp_path, "the new page")
    assert read_pages(tmp_path) == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_files_of_a_killed_process_are_removed_by_the_next(recording, without_drawing, tmp_path):
    write_page(inspect(recording), tmp_path, "the old page")
    before = read_pages(tmp_path)
    code = (
        "import os, signal, sys\nfrom harness.report import inspection_page\n"
        "def kill(folder): os.kill(os.getpid(), signal.SIGKILL)\n"
        "inspection_page.draw_template = kill\n"
        "from harness.app.verbs import run_verb\nrun_verb(sys.argv[1:])"
    )
    overrides = ["inspect", "dataset=haxby", "subject=1", f"dataset.data_dir={recording.bold.parents[2]}"]
    process = subprocess.run([sys.executable, "-c", code, *overrides, "--out", str(tmp_path)], timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert {file: content for file, content in read_pages(tmp_path).items() if file in before} == before
    (left,) = tmp_path.glob(".*")
    os.utime(left, (0, 0))  # long ago, so that no process can still be writing there
    write_page(inspect(recording), tmp_path, "the old page")
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in before}


def test_the_verb_on_a_study_with_one_image_per_run(nifti_study, without_drawing, tmp_path, capsys):
    overrides = [
        "dataset=nifti",
        f"dataset.bold='{nifti_study}/sub-{{subject:02d}}/run-*.nii.gz'",
        f"dataset.events='{nifti_study}/sub-{{subject:02d}}/events-*.tsv'",
        f"roi.mask={nifti_study}/sub-01/vt.nii.gz",
        "subject=1",
    ]
    assert run_verb(["inspect", *overrides, "--out", str(tmp_path / "page")]) == 0
    text = (tmp_path / "page" / "index.html").read_text()
    for words in ("run-0.nii.gz and 2 more", "(6, 5, 4, 33)", "(6, 5, 4, 99)", "(99, 60)", "2 s"):
        assert words in text, words
    assert "fail" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("one", "other", "same"),
    first(
        1,
        [
            (
                "contrast.conditions=[{1:[face],b:[cat]},house]",
                "contrast.conditions=[{1:[face]},house]",
                False,
            ),
            ("signal.high_pass=1", "signal.high_pass=1.0", True),
            ("signal.detrend=false", "roi.screening_percentile=20", True),
            ("signal.detrend=true", "signal.detrend=false", False),
        ],
    ),
)
def test_equal_questions_have_the_same_page(compose, one, other, same):
    requests = [compose(word) for word in (one, other)]
    names = {name_page(request, request.dataset.load(request.subject)) for request in requests}
    assert len(names) == (1 if same else 2)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    first(
        2,
        [
            (["roi=vtt"], 2, "Did you mean 'vt'?"),
            (["subject=1,2"], 2, "has 2 combinations of values"),
            (["cv.random_state=glob(*)"], 2, "'cv.random_state=glob(*)' has no value"),
            (["contrast=[[null]]"], 2, "unknown option 'contrast=[[null]]'"),
            (["hydra/launcher=joblib"], 2, "has no effect on one run"),
            (["dataset=haxby", "subject=9"], 1, "subjects 1 to 6"),
            (["--out", "file"], 2, "cannot be written"),
        ],
    ),
)
def test_the_verb_refuses_a_wrong_option_in_one_message(
    without_drawing, tmp_path, monkeypatch, capsys, arguments, status, text, simulated_cache
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert run_verb(["inspect", *arguments]) == status
    assert text in capsys.readouterr().err
    shutil.rmtree(tmp_path, ignore_errors=True)
