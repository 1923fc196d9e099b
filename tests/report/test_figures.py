"""Pictures show the weights in the right place and colour, with the right words."""

import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib
import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import LeaveOneGroupOut

from harness.datasets.haxby import read_subject
from harness.decoding.decode import decode
from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import Scoring
from harness.decoding.question import Question
from harness.decoding.splitters import Scheme
from harness.report.artifacts import write_artifacts
from harness.report.figures import draw_confusion, draw_map, draw_slices, show_weights, write_map_view
from harness.samples.contrasts import make_contrast
from harness.tracking.run_result import RunResult

LDA = Estimator("lda", LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))


@pytest.fixture(scope="module")
def decode_tiny(tiny_subject):
    def decode_tiny(shape=(6, 5, 4), conditions=("cat", "face"), anat=False):
        shown = ("face", "cat", "house")
        data = tiny_subject(shape=shape, conditions=shown if {*conditions} <= {*shown} else conditions)
        folder = data / "haxby2001"
        if anat:
            values = np.random.default_rng(3).normal(100, 20, shape).astype(np.float32)
            affine = nib.load(folder / "mask.nii.gz").affine
            nib.save(nib.Nifti1Image(values, affine), folder / "subj1" / "anat.nii.gz")
        return decode(
            read_subject(folder, 1, dataset="haxby"),
            Question(
                make_contrast(list(conditions)),
                LDA,
                Scheme("logo", LeaveOneGroupOut()),
                scoring=Scoring(inner_folds=2),
            ),
        )

    return decode_tiny


BACKGROUNDS = [
    "mean volume",
    pytest.param("anatomy", marks=pytest.mark.slow),
    pytest.param("single slice", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def decoding(decode_tiny):
    return decode_tiny()


@pytest.fixture(scope="module")
def decode_on(decode_tiny):
    """Return a function from what the weights are drawn on to a decoding."""
    options = {"mean volume": {}, "anatomy": {"anat": True}, "single slice": {"shape": (12, 10, 1)}}
    return lambda background: decode_tiny(**options[background])


def read_png(file):
    return matplotlib.image.imread(file)[..., :3]


def count_colours(picture):
    """Count clearly red and clearly blue pixels."""
    red, _, blue = np.moveaxis(picture, -1, 0)
    return int((red - blue > 0.2).sum()), int((blue - red > 0.2).sum())


def only_one_voxel(weights, value, voxel=None):
    data = np.zeros(weights.mean.shape, dtype=np.float32)
    data[voxel or tuple(size // 2 for size in data.shape)] = value
    return replace(weights, mean=nib.Nifti1Image(data, weights.mean.affine))


def draw_both_signs(draw, decoding, directory, voxel=None):
    """Draw one voxel of positive and of negative weight; return the pixels in which the pictures differ."""
    pictures = []
    for value in (1.0, -1.0):
        file = directory / f"{value}.png"
        draw(decoding, show_weights(only_one_voxel(decoding.weights[0], value, voxel)), file)
        pictures.append(read_png(file))
    positive, negative = pictures
    return positive, negative, (np.abs(positive - negative) > 0.3).any(axis=-1)


def read_words(draw, file):
    """Draw as SVG with its words as words."""
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(file)
    return re.findall(r"<text[^>]*>([^<]*)</text>", file.read_text())


@pytest.mark.parametrize("draw", [pytest.param(draw_map, marks=pytest.mark.slow), draw_slices])
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_red_is_evidence_for_the_positive_class(decode_on, tmp_path, background, draw):
    positive, negative, where = draw_both_signs(draw, decode_on(background), tmp_path)
    # The labels of the colour bar, which differ too, may move the grey background by a pixel.
    red, blue = (
        picture[where & (np.ptp(picture[..., :3], axis=-1) > 0.2)] for picture in (positive, negative)
    )
    assert len(red) > 0 < len(blue)
    assert (red[:, 0] > red[:, 2]).all()
    assert (blue[:, 2] > blue[:, 0]).all()


def test_slices_are_titled_with_the_contrast_and_their_positions(decoding, tmp_path):
    words = " ".join(
        read_words(
            lambda file: draw_slices(decoding, show_weights(decoding.weights[0]), file),
            tmp_path / "slices.svg",
        )
    )
    assert "haxby subject 1: lda weights, cat vs face (positive: cat)" in words
    assert "vt, 80 voxels, 32 volumes; lda, cv=logo; signal: zscore=own" in words
    assert "red: evidence for cat; blue: for face. Weights show what the decoder uses; they are not" in words
    affine = decoding.weights[0].mean.affine
    middle = decoding.weights[0].mean.shape[2] // 2
    millimetres = (affine @ [0, 0, middle, 1])[2]
    assert f"z = {millimetres:.0f} mm" in words


def test_left_is_left_and_up_is_forward_on_the_slices(decode_tiny, tmp_path):
    """The first axis of these images runs from right to left, as their affine states."""
    decoding = decode_tiny(shape=(12, 10, 1))
    assert nib.aff2axcodes(decoding.samples.grid.affine) == ("L", "A", "S")
    places = {}
    for name, voxel in {"right, front": (1, 8, 0), "left, back": (10, 1, 0)}.items():
        *_, where = draw_both_signs(draw_slices, decoding, tmp_path, voxel)
        places[name] = np.argwhere(where).mean(axis=0)
    (front, right), (back, left) = places["right, front"], places["left, back"]
    assert right > left
    assert front < back  # the first row of a picture is its upper edge


@pytest.mark.slow
def test_weights_are_titled_with_the_contrast(decoding, tmp_path):
    words = " ".join(
        read_words(
            lambda file: draw_map(decoding, show_weights(decoding.weights[0]), file), tmp_path / "weights.svg"
        )
    )
    assert "haxby subject 1: lda weights, cat vs face (positive: cat)" in words
    assert "red: evidence for cat; blue: for face" in words


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:empty mask")
def test_weights_that_are_all_zero_can_be_drawn(decoding, tmp_path):
    nothing = show_weights(only_one_voxel(decoding.weights[0], 0.0))
    draw_map(decoding, nothing, tmp_path / "weights.png")
    draw_slices(decoding, nothing, tmp_path / "slices.png")
    write_map_view(decoding, nothing, tmp_path / "weights.html")
    for name, draw in {"weights": draw_map, "slices": draw_slices}.items():
        positive, negative, _ = draw_both_signs(draw, decoding, tmp_path)
        red, blue = count_colours(read_png(tmp_path / f"{name}.png"))
        assert red < count_colours(positive)[0]
        assert blue < count_colours(negative)[1]
    page = (tmp_path / "weights.html").read_text()
    assert "positive: cat" in page
    assert "favicon" not in page, "the page must not ask the network for anything"


def test_the_title_of_the_page_names_the_positive_class(decoding, tmp_path):
    file = tmp_path / "weights.html"
    write_map_view(decoding, show_weights(decoding.weights[0]), file)
    page = file.read_text()
    assert "positive: cat" in page
    assert "<title>haxby subject 1: lda weights, cat vs face (positive: cat)</title>" in page
    assert "vt, 80 voxels, 32 volumes; lda, cv=logo; signal: zscore=own</div>" in page
    assert "they are not activation (Haufe et al. 2014)" in page
    assert '"crosshair": false' in page, "it would cover the largest value"
    assert len(page) > 100_000  # the viewer itself is inside, so that the page needs no connection


@pytest.mark.parametrize("conditions", [("cat", "face"), ("house", "face", "cat")], ids=len)
def test_confusion_has_every_class_and_count(decode_tiny, tmp_path, conditions):
    decoding = decode_tiny(conditions=conditions)
    words = read_words(lambda file: draw_confusion(decoding, file), tmp_path / "confusion.svg")
    contrast, n = " vs ".join(conditions), 16 * len(conditions)
    shown_words = " ".join(words)
    assert f"Confusion matrix, haxby subject 1: {contrast}" in shown_words
    details = f"{n} held-out volumes; vt, 80 voxels, {n} volumes; lda, cv=logo; signal: zscore=own"
    assert details in shown_words
    assert "Rows: true class. Number of volumes, share of the row." in shown_words
    assert {"true class", "predicted class"} <= set(words)
    for name in conditions:
        assert words.count(name) == 2  # a row and a column
    numbers = [int(word) for word in words if word.isdigit()]
    shown = decoding.predictions["class"].to_numpy()
    predicted = decoding.predictions["predicted"].to_numpy()
    assert numbers == [
        ((shown == row) & (predicted == col)).sum() for row in conditions for col in conditions
    ]


def test_confusion_is_darkest_on_the_diagonal_where_all_is_right(decode_tiny, tmp_path):
    decoding = replace(decode_tiny(), confusion=np.diag([16, 16]))
    file = tmp_path / "confusion.png"
    draw_confusion(decoding, file)
    picture = read_png(file)
    dark_blue = (picture[..., 2] - picture[..., 0] > 0.25) & (picture[..., 0] < 0.2)
    rows, columns = np.nonzero(dark_blue)
    middle_row, middle_column = np.median(rows), np.median(columns)
    # Dark where row and column are on the same side of the middle: upper left and lower right.
    same_side = (rows < middle_row) == (columns < middle_column)
    assert dark_blue.mean() > 0.1
    assert same_side.mean() > 0.95


@pytest.mark.slow
def test_no_figure_stays_open_and_no_window_is_needed(decode_tiny, tmp_path):
    import matplotlib.pyplot as plt

    decoding = decode_tiny()
    draw_confusion(decoding, tmp_path / "confusion.png")
    draw_map(decoding, show_weights(decoding.weights[0]), tmp_path / "weights.png")
    draw_slices(decoding, show_weights(decoding.weights[0]), tmp_path / "slices.png")
    assert plt.get_fignums() == []
    assert matplotlib.get_backend().lower() == "agg"


@pytest.mark.parametrize("suffix", [pytest.param(".nii", marks=pytest.mark.slow), ".nii.gz"])
def test_damaged_anatomy_is_a_warning(decode_tiny, tmp_path, suffix):
    decoding = decode_tiny()
    anat = tmp_path / f"anat{suffix}"
    values = np.random.default_rng(3).normal(100, 20, (20, 20, 20)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), anat)
    anat.write_bytes(anat.read_bytes()[:-8])
    decoding = replace(decoding, recording=replace(decoding.recording, anat=anat))
    name = decoding.weights[0].name
    written = write_artifacts(RunResult(decoding), tmp_path, "seed: 0", "full").decoding
    for picture in (f"weights_{name}.png", f"weights_{name}.html"):
        found = [text for text in written.warnings if text.startswith(f"{picture} could not be drawn")]
        assert len(found) == 1
        assert str(anat) in found[0]


@pytest.mark.slow
def test_a_picture_that_cannot_be_drawn_is_a_warning(decode_tiny, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no font")

    monkeypatch.setattr("harness.report.artifacts.draw_confusion", fail)
    decoding = write_artifacts(RunResult(decode_tiny()), tmp_path, "seed: 0", "full").decoding
    assert any(
        "confusion.png could not be drawn: RuntimeError: no font" in text for text in decoding.warnings
    )
    assert (tmp_path / "folds.csv").is_file()
    assert (tmp_path / "warnings.txt").read_text().count("confusion.png") == 1


def test_light_figures_are_the_first_weights_only(decode_tiny, tmp_path):
    decoding = decode_tiny()
    of_dummy = replace(decoding, weights=[])
    drawn = {}
    for name, each in (("lda", decoding), ("dummy", of_dummy)):
        (tmp_path / name).mkdir()
        write_artifacts(RunResult(each), tmp_path / name, "seed: 0", "light")
        drawn[name] = [file.name for file in (tmp_path / name).glob("*.png")]
    assert drawn == {"lda": ["weights_cat_vs_face.png"], "dummy": []}


# HTML, the end of a script, mathematics that matplotlib cannot parse, an entity, a control character.
HTML_NAMES = ["<script>alert(1)</script>", "</script><img/src=x>", "&lt;b&gt;"]
NAMES = [*HTML_NAMES, "$x_{$", "$\\frac$", "\x1b[31mred", "\"'"]


@pytest.mark.parametrize(
    "name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])], ids=ascii
)
def test_pages_and_pictures_show_a_name_as_it_is(decode_tiny, tmp_path, name):
    decoding = decode_tiny(conditions=(name, "house"))
    drawn = write_artifacts(RunResult(decoding), tmp_path, "seed: 0", "full").decoding
    assert drawn.warnings == decoding.warnings  # nothing that could not be drawn
    pages = sorted(tmp_path.glob("*.html"))
    benign = PageReader()
    write_map_view(decode_tiny(), show_weights(decode_tiny().weights[0]), tmp_path / "benign.html")
    benign.feed((tmp_path / "benign.html").read_text(encoding="utf-8"))
    assert [page.name.split("_")[0] for page in pages] == ["pattern", "weights"]
    for page in pages:
        reader = PageReader()
        reader.feed(page.read_text(encoding="utf-8"))
        assert name.isprintable() == (f"positive: {name}" in reader.title)
        assert reader.tags == benign.tags


@pytest.mark.parametrize(
    "name",
    [NAMES[3], *(pytest.param(name, marks=pytest.mark.slow) for name in [*HTML_NAMES, NAMES[4]])],
    ids=ascii,
)
@pytest.mark.parametrize(
    "draw", [pytest.param(draw_map, marks=pytest.mark.slow), draw_slices, draw_confusion]
)
def test_words_of_pictures_are_the_names(decode_tiny, tmp_path, name, draw):
    decoding = decode_tiny(conditions=(name, "house"))
    arguments = () if draw is draw_confusion else (show_weights(decoding.weights[0]),)
    words = read_words(lambda file: draw(decoding, *arguments, file), tmp_path / "picture.svg")
    assert any(name in html.unescape(word) for word in words), words


class PageReader(HTMLParser):
    """Reads the elements of a page, and its title, as a browser does."""

    def __init__(self):
        super().__init__()
        self.tags, self.title, self.inside = [], "", ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, sorted(name for name, _ in attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "title":
            self.title += data
