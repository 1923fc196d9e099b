"""Pages of the repository outside of ``docs/`` that the site contains: studies, CONTRIBUTING, CHANGELOG.

They are copied with their links rewritten, so that links between them and the pages in ``docs/`` work on
GitHub and in the site.
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
# Pages of the top level, by their address in the site.
TOP = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def list_copied_pages(root: Path, docs: Path) -> dict[Path, str]:
    """Return the text of each copied page by the path that it is written to."""
    addresses = find_addresses(root)
    pages = {
        docs / address: rewrite_links((root / source).read_text(encoding="utf-8"), source, address, addresses)
        for source, address in addresses.items()
    }
    studies = [address for address in addresses.values() if address.startswith("studies/")]
    rows = [
        f"| [`{Path(address).stem}`]({Path(address).name}) | {_read_title(pages[docs / address])} |"
        for address in studies
    ]
    table = "\n".join(["| study | question |", "|---|---|", *rows, ""])
    names = "\n".join(Path(address).stem for address in studies)
    pages[docs / "studies" / "index.md"] = STUDIES_INDEX.format(table=table, names=names)
    return pages


def find_addresses(root: Path) -> dict[str, str]:
    """Return where each copied page is in the site: its path in the repository, and below ``docs/``."""
    studies = sorted((root / STUDIES).glob("*.md"))
    return TOP | {f"{STUDIES}/{path.name}": f"studies/{path.name}" for path in studies}


def rewrite_links(text: str, source: str, address: str, addresses: Mapping[str, str]) -> str:
    """Return a page with its relative links rewritten for its address in the site.

    Parameters
    ----------
    source : str
        Path of the page in the repository, which its links are relative to.
    address : str
        Path of the page below ``docs/``.
    addresses : mapping of str to str
        See `find_addresses`. Links to files that are no pages of the site stay relative to the repository.
    """
    here = posixpath.dirname(posixpath.join("docs", address))

    def rewrite(match: re.Match[str]) -> str:
        target, anchor = match[2], match[3] or ""
        if re.match(r"\w+:", target) or not target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        found = posixpath.join("docs", addresses[path]) if path in addresses else path
        return f"{match[1]}{posixpath.relpath(found, here)}{anchor})"

    return re.sub(r"(\]\()([^)#\s]*)(#[^)\s]*)?\)", rewrite, text)


def _read_title(text: str) -> str:
    return text.partition("\n")[0].lstrip("# ")
