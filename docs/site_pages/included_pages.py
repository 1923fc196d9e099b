"""Pages of the repository outside of ``docs/`` that the site contains: studies, tutorial, CONTRIBUTING, CHANGELOG.

Each has a page in the site that includes it, with MyST's directive, so that its own links to ``docs/`` work on
GitHub and in the site. Links in the opposite direction, from ``docs/`` to the included files, are right on
GitHub; for the site `rewrite_links` points them to the including pages. In the same way, a link to the sources
of a generated page, such as ``conf/``, leads to that page in the site.
"""

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

STUDIES = "experiments"
STUDIES_INDEX = """\
# Studies

Sweeps that are kept with their question and their result; `python -m harness -cn NAME` runs one of them, and
[sweeps](../sweeps.md#studies) explains how to add your own.

{table}
```{{toctree}}
:hidden:

{names}
```
"""
# Files of the top level, by their address in the site.
TOP = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
# Sources of generated pages, by the addresses of the pages.
GENERATED = {
    "conf": "reference/configuration.md",
    "src/harness/app/verbs/__init__.py": "reference/commands.md",
    "experiments": "studies/index.md",
    "examples": "examples/index.rst",
}


def list_including_pages(root: Path, docs: Path) -> dict[Path, str]:
    """Return the text of each page that includes a file, and of the index of the studies, by their paths."""
    addresses = find_addresses(root)
    pages = {docs / address: _format_include(source, address) for source, address in addresses.items()}
    studies = [Path(source) for source in addresses if posixpath.dirname(source) == STUDIES]
    rows = [f"| [`{study.stem}`]({study.name}) | {_read_title(root / study)} |" for study in studies]
    table = "\n".join(["| study | question |", "|---|---|", *rows, ""])
    names = "\n".join(study.stem for study in studies)
    pages[docs / "studies" / "index.md"] = STUDIES_INDEX.format(table=table, names=names)
    return pages


def find_addresses(root: Path) -> dict[str, str]:
    """Return where each included file is in the site: its path in the repository, and below ``docs/``."""
    studies = sorted((root / STUDIES).glob("*.md"))
    sections = sorted((root / STUDIES / "tutorial").glob("*.md"))
    return (
        TOP
        | {f"{STUDIES}/{path.name}": f"studies/{path.name}" for path in studies}
        | {f"{STUDIES}/tutorial/{path.name}": f"tutorial/{path.name}" for path in sections}
    )


def rewrite_links(text: str, page: str, addresses: Mapping[str, str]) -> str:
    """Return a page with its links to included files, and to sources of generated pages, pointing to pages.

    Parameters
    ----------
    page : str
        Path of the page below ``docs/``.
    addresses : mapping of str to str
        See `find_addresses`. Other links stay as they are.
    """
    directory = posixpath.dirname(posixpath.join("docs", page))
    known = {**GENERATED, **addresses}

    def rewrite(match: re.Match[str]) -> str:
        address = known.get(posixpath.normpath(posixpath.join(directory, match[2])))
        if address is None:
            return match[0]
        return f"{match[1]}{posixpath.relpath(posixpath.join('docs', address), directory)}{match[3]}"

    return re.sub(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))", rewrite, text)


def _format_include(source: str, address: str) -> str:
    """Return a page that includes a file, and turns its links to ``docs/`` into links within the site."""
    target = posixpath.relpath(source, posixpath.dirname(posixpath.join("docs", address)))
    docs = posixpath.relpath("docs", posixpath.dirname(source) or ".")
    return f"```{{include}} {target}\n:relative-docs: {docs}\n:relative-images:\n```\n"


def _read_title(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
