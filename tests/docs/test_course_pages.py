"""The course: both languages agree, links and figures exist, and the pages state what the program prints."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.testing.compare import compare_images

from course import figures
from course.extension import set_language
from course.figures import experiment, smoothing
from course.figures.decoding import decode_noise
from processes import harness

RMS_OF_OTHER_VERSIONS = 6  # of 255; a figure with another kernel differs by about 30
COURSE = Path(__file__).parents[2] / "docs" / "course"
ENGLISH = sorted((COURSE / "en").glob("*.md"))
PAGES = ENGLISH + sorted((COURSE / "zh").glob("*.md"))
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)]+)\)")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def name(page):
    return f"{page.parent.name}/{page.stem}"


def read_commands(page):
    return re.findall(r"^(?: {4})?(python -m harness.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def read_images(page):
    return [target for _, target in IMAGE.findall(page.read_text(encoding="utf-8"))]


def read_references(page):
    return re.split(r"^## (?:References|参考文献)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1]


def count_headings(page):
    """The levels of all headings, in order; Python's comments are not used in the pages."""
    return re.findall(r"^(#+) ", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_both_languages_have_the_same_seven_pages():
    assert len(ENGLISH) == 7
    assert [page.name for page in ENGLISH] == sorted(page.name for page in (COURSE / "zh").glob("*"))


@pytest.mark.parametrize("page", ENGLISH, ids=name)
@pytest.mark.parametrize("read", [read_images, count_headings])
def test_both_languages_have_the_same_parts(page, read):
    parts = read(page)
    assert parts
    assert read(COURSE / "zh" / page.name) == parts


@pytest.mark.parametrize("page", ENGLISH, ids=name)
def test_both_languages_have_the_same_references(page):
    digital = re.findall(r"doi:10\.\d{4,}/\S*[^\s,.]", read_references(page))
    assert 3 <= read_references(page).count("\n* ") <= 8
    assert digital
    assert re.findall(r"doi:10\.\d{4,}/\S*[^\s,.]", read_references(COURSE / "zh" / page.name)) == digital


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_cited_work_is_in_the_references(page):
    text, references = page.read_text(encoding="utf-8"), read_references(page)
    cited = re.findall(
        r"([A-Z][\w']+)(?:(?:, [A-Z]\w+)* and [A-Z]\w+)?(?: et al\.)?[ \uff08(]+((?:19|20)\d\d)", text
    )
    assert cited
    for author, year in cited:
        assert re.search(rf"\b{author}\b[^\n]*\b{year}\b", references), (author, year)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_top_of_a_page_links_to_the_other_language(page):
    label, other = ("中文", "zh") if page.parent.name == "en" else ("English", "en")
    assert page.read_text(encoding="utf-8").splitlines()[2] == f"[{label}](../{other}/{page.name})"


@pytest.mark.parametrize("page", [*PAGES, COURSE / "index.md"], ids=name)
def test_all_links_of_a_page_exist(page):
    for _, target in LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target).is_file(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_index_lists_a_page_in_its_table_and_in_a_toctree(page):
    index = (COURSE / "index.md").read_text(encoding="utf-8")
    title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    assert f"[{title}]({name(page)}.md)" in index
    assert f"\n{name(page)}\n" in index


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_alternative_text_is_in_the_language_of_the_page(page):
    for text, _ in IMAGE.findall(page.read_text(encoding="utf-8")):
        assert len(text) > 30
        assert "\n" not in text  # MyST would join the words on both sides
        assert bool(CHINESE.search(text)) == (page.parent.name == "zh")


def test_chinese_pages_have_no_space_between_chinese_characters():
    """A line break inside a paragraph is shown as a space."""
    for page in PAGES:
        if page.parent.name == "zh":
            text = page.read_text(encoding="utf-8").split("## 参考文献")[0]
            assert not re.search(
                r"[\u4e00-\u9fff\uff0c\u3002\uff1b\uff1a][ \n][\u4e00-\u9fff\uff0c\u3002\uff1b\uff1a]", text
            ), page


def test_chinese_pages_have_keywords_because_the_search_does_not_split_chinese_sentences():
    """Sphinx indexes what stands between signs of punctuation as one word."""
    for page in PAGES:
        if page.parent.name == "zh":
            text = page.read_text(encoding="utf-8")
            (line,) = re.findall(r"^\*\*关键词\*\*\uff1a(.*)$", text, re.MULTILINE)
            words = line.split("\uff0c")
            assert len(set(words)) == len(words) >= 10
            for word in words:
                assert text.count(word) > 1, (page, word)


def test_the_pages_show_every_figure_that_is_drawn_once():
    shown = [target for page in ENGLISH for target in read_images(page)]
    assert sorted(shown) == sorted(f"../generated/{figure}.png" for figure in figures.FIGURES)


def test_a_figure_is_800_pixels_wide_on_white_and_is_the_same_in_every_build(tmp_path, monkeypatch):
    chosen = ("smoothing_kernel", "weights_patterns", "encoding_decoding")
    monkeypatch.setattr(figures, "FIGURES", {figure: figures.FIGURES[figure] for figure in chosen})
    paths = figures.write_figures(tmp_path)
    written = {path: path.read_bytes() for path in paths}
    for path in paths:
        pixels = imread(path)
        assert pixels.shape[1] == 800
        np.testing.assert_array_equal(pixels[0, 0], 1)  # opaque white
        assert pixels[..., :3].std() > 0.05
        path.write_bytes(b"of another version of harness")
    figures.write_figures(tmp_path)
    assert {path: path.read_bytes() for path in paths} == written
    assert plt.get_fignums() == []


def test_a_figure_that_cannot_be_written_leaves_the_former_one(tmp_path, monkeypatch):
    former = tmp_path / "broken.png"
    former.write_bytes(b"former")

    def fill_disk(figure, path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fill_disk)
    monkeypatch.setattr(figures, "FIGURES", {"broken": plt.figure})
    with pytest.raises(OSError, match="disk full"):
        figures.write_figures(tmp_path)
    assert former.read_bytes() == b"former"
    assert plt.get_fignums() == []


def test_only_chinese_pages_are_marked_as_chinese():
    for page, language in (("course/zh/nifti", "zh-CN"), ("course/en/nifti", "en"), ("index", "en")):
        context = {"language": "en"}
        set_language(None, page, "page.html", context, None)
        assert context["language"] == language


def test_the_smoothing_pages_state_the_closed_form_of_the_kernel():
    """Half of the maximum at half of the FWHM: exp(-x^2 / 2 sigma^2) = 1/2 at x = FWHM / 2."""
    sigma = 6 * smoothing.FWHM_TO_SIGMA
    assert np.exp(-(3**2) / (2 * sigma**2)) == pytest.approx(0.5)
    for page in PAGES:
        if page.stem == "smoothing":
            assert f"{sigma:.2f} mm" in page.read_text(encoding="utf-8")
            assert f"{1 / smoothing.FWHM_TO_SIGMA:.3f} sigma" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_pages_state_what_their_figures_show(tmp_path):
    drawn = figures.write_figures(tmp_path)
    assert len(drawn) == len(list(tmp_path.glob("*.png"))) == len(figures.FIGURES)
    for path in drawn:  # the figures of the repository are those that the code draws
        difference = compare_images(str(figures.DIRECTORY / path.name), str(path), tol=RMS_OF_OTHER_VERSIONS)
        assert difference is None, f"{difference}; draw them again: python -m course.figures"

    noise = [f"{values.mean():.2f}" for values in decode_noise().values()]
    correlations, conditions = experiment.correlate_halves()
    same = np.diag(correlations)
    between = correlations[conditions.index("face"), conditions.index("cat")]
    curves = [line.get_ydata() for line in smoothing.draw_smoothing_recovery().axes[0].lines]
    global_signal, dvars = (axes.lines[0].get_ydata() for axes in experiment.draw_outliers().axes)
    assert np.nanargmax(global_signal) == 60
    assert set(np.argsort(np.nan_to_num(dvars))[-2:]) == {60, 61}
    plt.close("all")
    claims = {
        "training": noise,
        "haxby": [f"{same.min():.2f}", f"{same.max():.2f}", f"{between:.2f}"],
        "smoothing": [
            f"{curves[0][0]:.2f}",
            f"{curves[0].max():.2f}",
            f"{curves[1].max():.2f}",
            f"{curves[1][-1]:.2f}",
        ],
    }
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for number in claims.get(page.stem, ()):
            assert number in text, (page, number)


# What the exercises expect, which is in the pages and in the output of their commands.
EXPECTED = {
    "nifti": ["(38, 47, 7, 1452)", "17.1 MB", "(99, 117, 95)"],
    "templates": ["35, -29, -19", "0.986"],
    "smoothing": ["0.819", "0.782", "0.625"],
    "haxby": ["0.977", "0.819", "0.954", "0.579", "0.233"],
    "looking": ["968", "986", "216"],
    "training": ["0.759", "0.801", "0.819", "0.468", "0.518"],
    "uses": ["0.977"],
}


@pytest.mark.slow
@pytest.mark.parametrize("page", ENGLISH, ids=name)
def test_the_exercise_of_a_page_has_the_expected_result(page, tmp_path):
    (command,) = read_commands(page)
    output = harness(tmp_path, *command.split()[3:], COLUMNS="200").stdout
    if "inspect" in command:
        (report,) = tmp_path.glob("mlruns/inspect/*/index.html")
        output += report.read_text(encoding="utf-8")
    for number in EXPECTED[page.stem]:
        assert number in output, number
        for language in ("en", "zh"):
            assert number in (COURSE / language / page.name).read_text(encoding="utf-8"), (language, number)
    if page.stem == "uses":
        check_weights_and_patterns(tmp_path)


def check_weights_and_patterns(directory):
    """Run the Python code of the page on the run's directory."""
    (weights,) = directory.glob("mlruns/artifacts/*/artifacts/weights_face_vs_house.nii.gz")
    for language in ("en", "zh"):
        text = (COURSE / language / "uses.md").read_text(encoding="utf-8")
        (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        printed = []
        exec(code.replace("DIRECTORY", str(weights.parent)), {"print": printed.append})
        correlation, share = printed
        assert f"{correlation:.2f}" in text
        assert f"{100 * share:.0f} %" in text
