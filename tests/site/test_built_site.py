"""The built site: links, and pages that fit a phone. CI builds it first; elsewhere HARNESS_SITE names it."""

import os
from pathlib import Path

import pytest

from browser import MILLISECONDS, start_chromium
from site_pages.link_check import find_broken_links, read_page

SITE = Path(os.environ.get("HARNESS_SITE", Path(__file__).parents[2] / "docs" / "_build" / "html"))
PHONE, DESKTOP = 400, 1280  # px
# By how much the page, or the column of its text, is wider than what is shown of it. The column scrolls by itself.
WIDER_THAN_ITS_PLACE = """() => Math.max(...[
  document.documentElement, ...document.querySelectorAll(".bd-main, .bd-content, .bd-article-container, .bd-article")
].map(element => element.scrollWidth - element.clientWidth))"""


@pytest.fixture(scope="module")
def site():
    if not (SITE / "index.html").exists():
        if "HARNESS_SITE" in os.environ:
            pytest.fail(f"HARNESS_SITE={SITE} has no index.html")
        pytest.skip("the site is not built; see CONTRIBUTING.md")
    return SITE


def list_pages(site):
    """Return the pages that a reader sees."""
    return sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)


@pytest.mark.slow
def test_every_local_link_and_fragment_has_a_target(site):
    assert find_broken_links(site) == []


@pytest.mark.slow
def test_links_to_other_sites_have_no_placeholders(site):
    assert [(path.name, link) for path in list_pages(site) for link in read_page(path).links if "$" in link] == []


@pytest.mark.slow
def test_every_page_can_be_reached_from_the_first(site):
    reached, waiting = set(), [(site / "index.html").resolve()]
    while waiting:
        path = waiting.pop()
        if path in reached or path.suffix != ".html" or not path.exists():
            continue
        reached.add(path)
        links = [link.partition("#")[0] for link in read_page(path).links if ":" not in link]
        waiting += [(path.parent / link).resolve() for link in links if link]
    left = {path.name for path in list_pages(site) if path.resolve() not in reached}
    assert left <= {"genindex.html", "search.html"}


@pytest.mark.slow
def test_no_page_scrolls_sideways(site):
    wide = []
    with start_chromium() as browser:
        for width in (PHONE, DESKTOP):
            page = browser.new_page(viewport={"width": width, "height": 900})
            for path in list_pages(site):
                page.goto(path.resolve().as_uri(), wait_until="domcontentloaded", timeout=MILLISECONDS)
                beyond = page.evaluate(
                    WIDER_THAN_ITS_PLACE,
                )
                if beyond > 0:
                    wide.append(f"{path.relative_to(site)} at {width}: {beyond} px too wide")
            page.close()
    assert wide == []
