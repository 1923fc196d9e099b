"""A report in headless Chromium: it loads nothing, fits the screen, and its brain moves."""

import re

import nibabel as nib
import numpy as np
import pytest
from report_runs import write_run

from browser import start_chromium
from harness.report.map_figures import StoredImages
from harness.report.run_report import write_run_report
from harness.report.sweep_report import write_sweep_report

pytestmark = pytest.mark.slow
WIDTHS = [1280, 390]


@pytest.fixture(scope="module")
def browser():
    with start_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The page of a run of eight classes with images, and that of a sweep."""
    home = tmp_path_factory.mktemp("reports")
    classes = tuple(f"a_long_name_of_class_{number}" for number in range(8))
    run = write_run(home / "run", classes=classes, null=np.linspace(0.9, 0.1, 50))
    rng = np.random.default_rng(0)
    volumes = {number: rng.random((5, 6, 4)) for number in range(400)}
    mean = nib.Nifti1Image(rng.random((5, 6, 4)).astype(np.float32), np.diag([3.0, 3, 3, 1]))
    page = write_run_report(run, StoredImages(mean, None, volumes, 2.5), home / "one")[0]
    pairs = (("face", "cat"), ("face", "house"), ("cat", "house"))
    runs = [
        write_run(home / f"{subject}{number}", classes=pair, subject=subject, weights=False)
        for subject in "12"
        for number, pair in enumerate(pairs)
    ]
    return {"run": page, "sweep": write_sweep_report("Sweep", runs, home / "many")[0]}


def open_page(browser, file, width):
    """Open a page; return it, what it requested, and its errors."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_load_state("load")
    return page, requests, errors


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_it_opens_without_network_errors_or_horizontal_scrolling(browser, reports, kind, width):
    page, requests, errors = open_page(browser, reports[kind], width)
    page.wait_for_timeout(1000)
    assert [url for url in requests if not re.match(r"(file|data|blob|about):", url)] == []
    assert errors == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0 && image.alt)")
    page.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_interactive_brain_moves_when_clicked(browser, reports, width):
    page, _, errors = open_page(browser, reports["run"], width)
    element = page.locator("iframe").first
    element.scroll_into_view_if_needed()
    canvas = page.frame_locator("iframe").first.locator("canvas").first
    canvas.wait_for(state="visible")
    page.wait_for_timeout(1500)

    def pixels():
        return canvas.evaluate("canvas => canvas.toDataURL()")

    before = pixels()
    box = canvas.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.12, box["y"] + box["height"] * 0.45)
    page.wait_for_timeout(500)
    assert pixels() != before
    assert errors == []
    page.close()


def test_the_table_of_contents_leads_to_every_section(browser, reports):
    page, _, _ = open_page(browser, reports["sweep"], 1280)
    for link in page.locator("nav a").all():
        link.click()
        anchor = link.get_attribute("href")
        assert page.locator(anchor).locator("h2").inner_text()
        assert page.evaluate("location.hash") == anchor
    page.close()


def test_it_prints_without_navigation_and_interactive_views(browser, reports):
    page, _, _ = open_page(browser, reports["run"], 1280)
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator("iframe").first.is_visible()
    assert page.pdf()[:4] == b"%PDF"
    page.close()
