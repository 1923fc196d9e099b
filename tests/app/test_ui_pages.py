"""The pages of the MLflow UI show what the harness prepares for them, in headless Chromium."""

import os
import re
import subprocess
import sys
from contextlib import suppress
from urllib.request import urlopen

import pytest

from browser import MILLISECONDS, start_chromium
from processes import harness, read_runs
from services import find_port, start_process, wait_for

pytestmark = pytest.mark.slow


def is_answering(address):
    with suppress(OSError), urlopen(address, timeout=5):
        return True
    return False


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Start ``harness ui`` on a sweep of two subjects and two estimators, with a run that has all figures.

    Yields the links that it prints, by title, and the run.
    """
    folder = tmp_path_factory.mktemp("pages")
    harness(folder, "-m", "subject=1,2", "estimator=svc,lda", "cv=kfold5", "figures=light")
    harness(folder, "subject=1", "estimator=svc", "cv=kfold5", "figures=full", "resume=false")
    _, runs = read_runs(folder)
    (single,) = (run for run in runs if "harness.sweep" not in run.data.tags)
    log, port = folder / "ui.log", str(find_port())
    command = [
        sys.executable,
        "-m",
        "harness",
        "ui",
        "--no-browser",
        "--port",
        port,
        "--run",
        single.info.run_id,
    ]
    process = start_process(command, log, dict(os.environ), cwd=folder)
    try:
        wait_for("the MLflow UI", lambda: is_answering(f"http://127.0.0.1:{port}/health"), 120, log)
        links = dict(re.findall(r"^ *(.*?): (http://\S*)$", log.read_text(), flags=re.MULTILINE))
        yield links, single
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="module")
def browser():
    with start_chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    """A wide page, so that no column of a table is outside."""
    page = browser.new_page(viewport={"width": 2400, "height": 2400})
    page.set_default_timeout(MILLISECONDS)
    yield page
    page.close()


def find_link(links, pattern):
    (link,) = (link for title, link in links.items() if re.search(pattern, title))
    return link


def wait_until_drawn(figure):
    """Wait until an image has arrived, whatever its size."""
    figure.wait_for()
    figure.evaluate("image => image.complete || new Promise(done => image.onload = image.onerror = done)")
    assert figure.evaluate("image => image.naturalWidth") > 100


def test_averages_over_subjects_have_a_row_per_estimator(served, page):
    links, _ = served
    page.goto(find_link(links, "mean over subjects"))
    for estimator in ("svc", "lda"):
        page.get_by_text(f"Group: {estimator}").wait_for()
    page.get_by_text("test_accuracy_mean", exact=True).first.wait_for()
    assert page.get_by_role("columnheader", name="subject", exact=True).count() == 0


def test_runs_of_the_sweep_have_columns_of_what_varies(served, page):
    links, _ = served
    page.goto(find_link(links, r"sweep.*decoding$"))
    for name in ("subject", "estimator", "test_accuracy_mean", "test_roc_auc_mean", "selected_roc_auc_mean"):
        page.get_by_role("columnheader", name=name).first.wait_for()
    page.get_by_text("4 matching runs").wait_for()
    assert page.get_by_role("columnheader", name="contrast").count() == 0, "the same in all runs"


def test_chart_page_has_a_chart_per_score_over_folds_and_the_figures_of_all_runs(served, page):
    links, _ = served
    page.goto(find_link(links, r"sweep.*decoding$") + "&compareRunsMode=CHART")
    for chart in ("maps/weights", "selected/roc_auc", "test/accuracy", "test/roc_auc"):
        page.get_by_text(chart, exact=True).first.wait_for()
    figures = page.locator("img[src*='compressed'], img[src^='blob:']")
    wait_until_drawn(figures.first)
    page.wait_for_function(
        "() => [...document.images].filter(image => image.naturalWidth > 200).length >= 4",
        timeout=MILLISECONDS,
    )


def test_run_page_starts_with_question_answer_and_figure(served, page):
    links, run = served
    page.goto(find_link(links, "^run "))
    page.get_by_text("Question:").wait_for()
    text = page.locator("body").inner_text()
    mean = run.data.metrics["test_roc_auc_mean"]
    assert "simulated subject 1: face vs cat, vt, svc, cv=kfold5; 216 volumes" in text
    assert f"test_roc_auc {mean:.3f}" in text
    assert "nominal chance 0.500; not tested, so no p-value; audit: leak." in text
    wait_until_drawn(page.locator("img[src*='get-artifact?path=weights_face_vs_cat.png']"))
    metrics = page.locator("body").inner_text()
    assert metrics.index("test_accuracy_mean") < metrics.index("test_roc_auc_mean")
    assert "test/accuracy" not in metrics.split("test_accuracy_mean")[0]


def test_artifact_pane_draws_the_interactive_map(served, page):
    links, _ = served
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(find_link(links, "^run ").replace("?", "/artifacts/weights_face_vs_cat.html?"))
    frame = page.frame_locator("iframe")
    frame.locator("canvas").wait_for()
    assert "Weights show what the decoder uses; they are not activation" in frame.locator("body").inner_text()
    assert frame.locator("b").inner_text() == "simulated subject 1: svc weights, face vs cat (positive: face)"
    drawn = """canvas => {
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return data.some((value, place) => place % 4 < 3 && value > 100);
    }"""
    wait_for("the map", lambda: frame.locator("canvas").evaluate(drawn), 60)
    assert errors == []
