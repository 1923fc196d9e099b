"""The pages that docs/ generates: complete, deterministic, and with links that lead somewhere."""

import posixpath
import re
import subprocess
import sys
import zlib
from dataclasses import fields
from pathlib import Path, PurePosixPath

import pytest

import harness
from harness.app import schema
from harness.app.verbs import VERBS, run_verb
from site_pages.commands_page import WIDTH, format_commands_page
from site_pages.import_diagram import draw_diagram, list_counts, read_layers, reduce_arrows
from site_pages.included_pages import find_addresses, list_including_pages, rewrite_links
from site_pages.inventories import read_inventory, write_inventories
from site_pages.link_check import find_broken_links, read_page
from site_pages.markdown import format_table, to_markdown

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ADDRESSES = {"CONTRIBUTING.md": "contributing.md", "experiments/a.md": "studies/a.md"}


@pytest.fixture(scope="module")
def configuration():
    pytest.importorskip("numpydoc")
    from site_pages.configuration_page import format_configuration_page

    return format_configuration_page()


def test_bars_in_cells_are_escaped_and_lines_joined():
    assert format_table(("a", "b"), [("x|y", "1\n2")]).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        r"| x\|y | 1 2 |",
    ]


def test_text_of_docstrings_becomes_markdown_and_code_stays_as_it_is():
    assert to_markdown("``a<b>`` is *one* <DIR>; None") == r"`a<b>` is \*one\* \<DIR\>; `null`"


def test_every_key_of_the_schema_has_a_row_with_type_default_and_meaning(configuration):
    rows = dict(re.findall(r"^\| `([\w./]+)` (\|.*)$", configuration, flags=re.MULTILINE))
    typed = ("Contrast", "Roi", "Signal", "Scoring", "Inference", "Tracking")
    for name in typed:
        for field in fields(getattr(schema, f"{name}Schema")):
            cells = rows[f"{name.lower()}.{field.name}"].strip("| ").split(" | ")
            assert len(cells) == 3 and all(cells), field.name
    for key in ("subject", "seed", "engine", "resume", "figures", "cache", "model"):
        assert key in rows


def test_every_option_file_is_on_the_page(configuration):
    files = [path for path in (ROOT / "conf").glob("*/*.yaml")]
    assert len(files) > 40
    for path in files:
        assert re.search(rf"`({path.parent.name}=)?{path.stem}`", configuration), path


def test_values_of_the_page_are_those_of_the_files(configuration):
    assert "| `cv.n_volumes` | whole number | `30` |" in configuration
    assert "| `estimator.alphas` | list of number | `[10.0]` |" in configuration
    assert "`run` with `signal=per_run`, `train` with `signal=train_only`" in configuration
    assert "| `engine` | `harness`, `nilearn` | `harness` |" in configuration
    assert configuration.count("| `cv.incomplete` | `refuse`, `skip` | `refuse` |") == len(
        list((ROOT / "conf" / "cv").glob("*.yaml"))
    )
    assert "| `analysis.radius` | number | `8.0` | radius of the spheres, in mm |" in configuration


def test_no_key_is_without_meaning(configuration):
    assert [line for line in configuration.splitlines() if re.fullmatch(r"\| `.*\|\s*\|", line)] == []


def test_the_section_of_a_verb_is_its_help(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")  # the page does not depend on the terminal
    page = format_commands_page()
    monkeypatch.setenv("COLUMNS", str(WIDTH + 2))  # argparse leaves two columns free
    for verb in VERBS:
        with pytest.raises(SystemExit):
            run_verb([verb, "--help"])
        assert f"\n### {verb}\n\n```text\n{capsys.readouterr().out}```\n" in page


def test_every_public_name_is_in_the_reference_once():
    listed = re.findall(r"^   (\w+)$", (DOCS / "reference" / "api.md").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == harness.__all__


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("../../experiments/a.md#tests", "../studies/a.md#tests"),
        ("../../CONTRIBUTING.md", "../contributing.md"),
        ("../../experiments/b.md", "../../experiments/b.md"),  # not a page of the site
        ("../groups.md", "../groups.md"),
        ("https://example.org/a.md", "https://example.org/a.md"),
        ("#tests", "#tests"),
    ],
)
def test_links_to_an_included_file_lead_to_the_page_that_includes_it(link, expected):
    assert rewrite_links(f"![x]({link})", "reference/b.md", ADDRESSES) == f"![x]({expected})"


def test_links_to_the_sources_of_a_generated_page_lead_to_the_page():
    text = "[a](../../conf/#dataset) [b](../../experiments/) [c](../../conf/cv/logo.yaml)"
    expected = "[a](configuration.md#dataset) [b](../studies/index.md) [c](../../conf/cv/logo.yaml)"
    assert rewrite_links(text, "reference/b.md", {}) == expected


def test_every_relative_link_of_a_page_in_the_repository_has_a_file_there():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: which files are generated is known to git")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = set(listed.stdout.split("\0")) - {""}
    directories = {parent.as_posix() for file in files for parent in PurePosixPath(file).parents}
    pages = [file for file in files if file.endswith(".md")]
    assert len(pages) > 60
    missing = []
    for page in sorted(pages):
        text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S | re.M)
        for link in re.findall(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)", text):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
            if ":" not in link and target not in files | directories:
                missing.append(f"{page}: {link}")
    assert missing == []


@pytest.mark.slow
def test_links_of_included_files_lead_to_the_same_pages_in_the_site(tmp_path):
    """A site of a study and CONTRIBUTING that link to a page in docs/, and of a page that links back."""
    pytest.importorskip("myst_parser")
    for file, text in {
        "experiments/a.md": "# A\n\n[x](../docs/c.md#deep)\n\n[y](b.md)\n",
        "experiments/b.md": "# B\n\n[x](../docs/reference/d.md)\n",
        "CONTRIBUTING.md": "# Contributing\n\n[x](docs/c.md)\n",
        "CHANGELOG.md": "# Changelog\n",
        "docs/index.md": "# Index\n\n```{toctree}\n:glob:\n\n*\n*/*\n```\n",
        "docs/sweeps.md": "# Sweeps\n\n## Studies\n",
        "docs/c.md": "# C\n\n## Deep\n\n[x](../experiments/a.md) [y](../CONTRIBUTING.md)\n",
        "docs/reference/d.md": "# D\n\n[x](../../experiments/a.md)\n",
    }.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    docs = tmp_path / "docs"
    for path, text in list_including_pages(tmp_path, docs).items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (docs / "conf.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(DOCS)!r})\n"
        "extensions = ['myst_parser', 'site_pages.extension']\n"
        "myst_heading_anchors = 4\n"
    )
    options = ["-W", "--keep-going", "-q", "-b", "html", str(docs), str(tmp_path / "html")]
    process = subprocess.run([sys.executable, "-m", "sphinx", *options], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    for page, links in {
        "studies/a.html": ["../c.html#deep", "b.html"],
        "studies/b.html": ["../reference/d.html"],
        "contributing.html": ["c.html"],
        "c.html": ["studies/a.html", "contributing.html"],
        "reference/d.html": ["../studies/a.html"],
    }.items():
        shown = read_page(tmp_path / "html" / page).links
        assert set(links) <= set(shown), (page, shown)


def test_every_study_has_a_page_and_is_in_the_index():
    pages = list_including_pages(ROOT, DOCS)
    index = pages[DOCS / "studies" / "index.md"]
    studies = sorted(path.stem for path in (ROOT / "experiments").glob("*.md"))
    assert re.findall(r"^\| \[`(\w+)`\]", index, flags=re.MULTILINE) == studies
    assert {DOCS / address for address in find_addresses(ROOT).values()} <= set(pages)


def test_inventories_are_those_that_sphinx_writes(tmp_path):
    source = tmp_path / "pkg.txt"
    source.write_text(
        "https://example.org/doc\npkg.Class py:class api/$.html#$\nterm std:term glossary.html#term-$\n"
    )
    mapping = write_inventories(tmp_path, tmp_path / "inv")
    assert mapping == {"pkg": ("https://example.org/doc", str(tmp_path / "inv" / "pkg.inv"))}
    header, _, body = (tmp_path / "inv" / "pkg.inv").read_bytes().partition(b"using zlib.\n")
    assert header.startswith(b"# Sphinx inventory version 2\n# Project: pkg\n# Version: ")
    expected = b"pkg.Class py:class 1 api/pkg.Class.html#pkg.Class -\nterm std:term 1 glossary.html#term-term -\n"
    assert zlib.decompress(body) == expected


def test_inventories_can_be_read_by_sphinx(tmp_path):
    inventory = pytest.importorskip("sphinx.util.inventory")
    for _, file in write_inventories(DOCS / "inventories", tmp_path).values():
        with Path(file).open("rb") as stream:
            loaded = inventory.InventoryFile.load(stream, "https://example.org", "/".join)
        assert loaded


@pytest.mark.parametrize("line", ["one two", "Name py:class a.html b", "ndarray py:class x.html"])
def test_a_wrong_line_of_an_inventory_is_an_error(tmp_path, line):
    source = tmp_path / "pkg.txt"
    source.write_text(f"https://example.org\nndarray py:class y.html\n{line}\n")
    with pytest.raises(ValueError, match=r"pkg.txt, line 3"):
        read_inventory(source)


def test_arrows_that_a_chain_implies_are_left_out():
    counts = {("a", "b"): 2, ("b", "c"): 3, ("a", "c"): 4, ("a", "d"): 1}
    assert reduce_arrows(counts) == {("a", "b"): 2, ("b", "c"): 3, ("a", "d"): 1}


def test_every_package_is_a_layer_and_has_a_box():
    layers = read_layers()
    names = [name for layer in layers for name in layer]
    packages = {path.parent.name for path in (ROOT / "src" / "harness").glob("*/__init__.py")}
    assert packages | {"__main__", "errors"} == set(names)
    assert re.findall(r">(\w+)</text>", draw_diagram(layers, {})) == names


def test_counts_are_ordered_by_number():
    counts = {("a", "b"): 2, ("a", "c"): 3}
    assert list_counts([["a"], ["b", "c"]], counts)[0] == ("a", [("c", 3), ("b", 2)])


def test_imports_are_counted_between_packages():
    pytest.importorskip("grimp")
    from site_pages.import_diagram import count_imports

    layers = read_layers()
    levels = {name: level for level, layer in enumerate(layers) for name in layer}
    counts = count_imports("harness", list(levels))
    assert counts["__main__", "app"] > 0
    assert all(levels[importer] < levels[target] for importer, target in counts)


def test_broken_links_and_fragments_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="x"></p><a href="b.html#y">1</a><img src="c.png"><a href="#x">2</a>'
    )
    (tmp_path / "b.html").write_text(
        '<a href="a.html#x">1</a><a href="https://example.org/z">2</a><a href="../q">3</a>'
    )
    assert find_broken_links(tmp_path) == ["a.html: b.html#y", "a.html: c.png", "b.html: ../q"]


def test_a_directory_without_pages_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no pages"):
        find_broken_links(tmp_path)
