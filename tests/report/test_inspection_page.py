"""The page of an inspection: complete, standalone, and replaced as a whole."""

import base64
import json
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

from harness.app.inspection import name_page
from harness.app.verbs import run_verb
from harness.checks.inspection import inspect_recording
from harness.datasets.haxby import Haxby
from harness.datasets.simulated import Simulated
from harness.report import inspection_figures, inspection_page
from harness.report.inspection_figures import TEMPLATE_FILES, draw_template
from harness.report.inspection_index import PAGE_PARTS
from harness.report.inspection_page import write_page
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
    raw, smoothed, image = template
    assert min(picture.stat().st_size for picture in (raw, smoothed)) > 10_000
    expected = np.asarray(smooth_img(MNI152_FILE_PATH, fwhm=3).dataobj)
    written = nib.load(image)
    # The file keeps the template's 8 bits.
    atol = 0.51 * expected.max() / 255
    np.testing.assert_allclose(np.asarray(written.dataobj), expected, rtol=0, atol=atol)


@pytest.mark.slow
def test_the_picture_of_the_smoothed_template_is_of_the_written_file(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        inspection_figures,
        "_draw_image",
        lambda image, file, *_: drawn.update({file.name: image.get_filename()}),
    )
    _, _, written = draw_template(tmp_path)
    assert drawn == {"template.png": str(MNI152_FILE_PATH), "template_smoothed.png": str(written)}


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
    files = write_page(inspect(with_anatomy), tmp_path / "new" / "page", "python -m harness subject=1").files
    assert {file.name for file in files} == set(inspection_page.PAGE_FILES)
    text = assert_standalone(files[0])
    assert text.count('<img alt="') == 8
    assert "srcdoc=" in text
    assert "(6, 5, 4, 60)" in text


@pytest.mark.slow
def test_page_of_the_simulated_subject(simulated_cache, template_drawn_once, tmp_path):
    files = write_page(inspect(Simulated().load(2)), tmp_path / "page", "python -m harness subject=2").files
    assert {file.name for file in files} == set(inspection_page.PAGE_FILES)
    text = assert_standalone(files[0])
    for words in ("SIMULATED", "srcdoc=", "(38, 47, 7, 1452)", "(38, 47, 7, 216)", "harness subject=2"):
        assert words in text, words


PART_IDS = (  # other pages link them
    "orientation template template_smoothed anatomy mean_volume mean_volume_interactive roi labels design "
    "volumes shapes quality"
).split()


def read_anchors(page):
    reader, anchors = HTMLParser(), []
    reader.handle_starttag = lambda tag, attrs: anchors.extend(value for name, value in attrs if name == "id")
    reader.feed(page.read_text(encoding="utf-8"))
    return anchors


def test_the_index_lists_every_part_of_the_page_with_its_files(recording, template_drawn_once, tmp_path):
    with_anatomy = replace(recording, anat=recording.masks["brain"])
    page, *_ = write_page(inspect(with_anatomy), tmp_path, "").files
    parts = json.loads((tmp_path / "contents.json").read_text())
    assert [part["id"] for part in parts] == PART_IDS == [part.id for part in PAGE_PARTS]
    assert read_anchors(page) == PART_IDS
    for part in parts:
        assert part["what"]
        for name in (part["file"], part["data"]):
            assert not name or (tmp_path / name).stat().st_size > 0


def test_the_index_has_no_part_that_the_page_lacks(recording, without_drawing, tmp_path):
    page, *_ = write_page(inspect(recording, make_contrast(["face", "shoe"])), tmp_path, "").files
    ids = [part["id"] for part in json.loads((tmp_path / "contents.json").read_text())]
    assert ids == read_anchors(page)
    assert set(PART_IDS) - set(ids) == {"anatomy", "mean_volume_interactive", "shapes"}
    files = {part["file"] for part in json.loads((tmp_path / "contents.json").read_text())}
    assert files <= {file.name for file in tmp_path.iterdir()}


def test_the_page_has_orientation_affine_cuts_and_conditions(recording, without_drawing, tmp_path):
    page, *_ = write_page(inspect(recording), tmp_path, "").files
    text = page.read_text()
    affine = nib.load(recording.bold).affine
    assert "".join(nib.aff2axcodes(affine)) == "LAS"
    assert "LAS: i increases towards the left, j towards the front, k towards the top" in text
    for value in affine.ravel():
        assert f"<td>{value:g}</td>" in text
    # The slices with the most voxels of the mask: of equal ones, the first.
    vt = np.asarray(nib.load(recording.masks["vt"]).dataobj)
    voxel = [int(vt.sum(axis=axes).argmax()) for axes in ((1, 2), (0, 2), (0, 1))]
    x, y, z, _ = affine @ [*voxel, 1]
    assert f"x = {x:.1f}, y = {y:.1f}, z = {z:.1f} mm" in text
    assert "4 unique conditions: cat, face, house, rest." in text


def test_an_image_without_orientation_is_a_notice(recording, without_drawing, tmp_path):
    image = nib.load(recording.bold)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    file = tmp_path / "bold.nii.gz"
    nib.save(image, file)
    assert nib.load(file).header["sform_code"] == nib.load(file).header["qform_code"] == 0
    page, *_ = write_page(inspect(replace(recording, bold=file, masks={})), tmp_path / "page", "").files
    assert "bold.nii.gz: its header declares no orientation" in page.read_text()


def test_an_unknown_repetition_time_is_shown_as_not_known(recording, without_drawing, tmp_path):
    page, *_ = write_page(inspect(replace(recording, t_r=None)), tmp_path, "").files
    assert "not known" in page.read_text()


def test_notices_are_shown(recording, without_drawing, tmp_path):
    page, *_ = write_page(inspect(recording, make_contrast(["face", "shoe"])), tmp_path, "").files
    assert '<div class="notice">a run would fail: contrast.conditions: &#39;shoe&#39;' in page.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "interactive"), [("haxby2001-slice", False), ("haxby2001-vt", True)])
def test_page_of_real_data_without_anatomy(shared_data, template_drawn_once, tmp_path, folder, interactive):
    files = write_page(inspect(Haxby(shared_data / folder).load(1)), tmp_path, "").files
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
        page, *_ = write_page(inspection, home, f"python -m harness {shown}").files
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


def test_pages_of_different_volumes_have_different_names(compose):
    spec = compose("subject=2")
    recording = spec.dataset.load(2)
    names = [name_page(spec, recording)]
    names += [name_page(spec, recording, others={"volumes": shown}) for shown in ([0], [0, 17], [17, 0])]
    assert len(set(names)) == 4
    assert name_page(spec, recording, others={}) == names[0]


def test_the_verb_shows_chosen_volumes(recording, without_drawing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []

    def note(inspection, file):
        seen.append(list(inspection.volumes.examples))
        file.write_bytes(PIXEL)
        return file

    monkeypatch.setattr(inspection_page, "draw_volumes", note)
    data_dir = recording.bold.parents[2]
    for word in ("volumes=3,0,face", "volumes=[3,0,face]", "volumes=face"):
        inspect_tiny(data_dir, word)
    rows = np.flatnonzero(recording.labels["condition"] == "face")
    first = rows[np.r_[True, np.diff(rows) > 1]].tolist()
    assert seen == [[3, 0, *first], [3, 0, *first], first]
    pages = list((tmp_path / "mlruns").rglob("index.html"))
    assert len(pages) == 2
    assert all("volumes=0,17,face" not in page.read_text().partition("Decode it")[2] for page in pages)


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
            (["volumes=fcae"], 2, "unknown condition 'fcae'"),
            (["volumes=1452"], 2, "0 to 1451"),
            (["volumes="], 2, "empty entry"),
            (["volumes=1", "volumes=2"], 2, "given 2 times"),
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
