"""The guides: cited works have a reference, and the variables of the environment are those of the code."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GENERATED = ("changelog", "contributing")
PAGES = [page for page in sorted(DOCS.glob("*.md")) if page.stem not in GENERATED]
PAGES.append(DOCS / "tutorial" / "index.md")
AUTHOR = r"[A-Z][\w'\u2019]+"
CITATION = re.compile(rf"({AUTHOR})(?:(?:,| and| &) {AUTHOR})*(?: et al\.)?[ (]+((?:19\d|20[0-3])\d)\b")
INTERNAL = {"HARNESS_FRONT_DOOR", "HARNESS_SWEEP"}  # from a sweep to its workers


def list_citations(text):
    body, _, references = text.partition("\n## References\n")
    return [(first, year, references) for first, year in CITATION.findall(" ".join(body.split()))]


def test_citations_are_found_with_one_two_and_several_authors():
    text = "(Holm 1979), Nichols and Holmes (2002), Stelzer, Chen and\nTurner 2013; Haxby et al. (2001)"
    assert [found[:2] for found in list_citations(text)] == [
        ("Holm", "1979"),
        ("Nichols", "2002"),
        ("Stelzer", "2013"),
        ("Haxby", "2001"),
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_cited_work_has_a_reference_on_its_page(page):
    for author, year, references in list_citations(page.read_text(encoding="utf-8")):
        if page.stem == "index" and page.parent == DOCS:
            references = page.read_text(encoding="utf-8").partition("\n## Citing\n")[2]
        assert re.search(rf"^\* {author}\b.*\b{year}\b", references, re.MULTILINE), (author, year)


def test_the_page_on_comparing_has_the_references_of_its_statistics():
    references = (DOCS / "comparing.md").read_text(encoding="utf-8").partition("\n## References\n")[2]
    for name in ("Hartigan", "Hedges", "Holm", "Nadeau"):
        assert f"* {name}" in references


def test_the_first_page_names_the_works_that_the_citation_file_names():
    page = (DOCS / "index.md").read_text(encoding="utf-8")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    works = [work for work in cited if "the examples decode" not in work.get("notes", "")]
    assert len(works) == 2
    for work in works:
        first = work["authors"][0]["family-names"]
        assert f"* {first} et al. {work['year']}, {work['journal']} {work['volume']}:{work['start']}" in page
        assert work.get("doi", "") in page


def test_the_table_of_environment_variables_has_those_of_the_code():
    table = (DOCS / "options.md").read_text(encoding="utf-8")
    table = table.partition("\n## Environment variables\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "conf").rglob("*.yaml")]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    named = set(re.findall(r"\b(?:HARNESS|NILEARN|MLFLOW_TRACKING)_(?!OWN)[A-Z_]+\b", source))
    documented = set(re.findall(r"`([A-Z_]+)`", " ".join(cells)))
    assert named - INTERNAL <= documented
    assert all(re.search(rf"\b{name}\b", source) for name in documented)
