"""Inventories of other projects' documentation, from small text files in the repository.

Intersphinx links a name such as `numpy.ndarray` to the page that documents it. Remote inventories need a
network and list ten thousands of names; the text files list those that this documentation uses. Their first
line is the address of the site; each other line has a name, its domain and role, and the page, where every
``$`` stands for the name. Sphinx knows ``$`` at the end of a page only, so the inventories have none.
"""

import zlib
from pathlib import Path


def write_inventories(sources: Path, target: Path) -> dict[str, tuple[str, str]]:
    """Write an inventory for every text file, and return the value of ``intersphinx_mapping``."""
    target.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for source in sorted(sources.glob("*.txt")):
        address, entries = read_inventory(source)
        file = target / f"{source.stem}.inv"
        file.write_bytes(format_inventory(source.stem, entries))
        mapping[source.stem] = (address, str(file))
    return mapping


def read_inventory(source: Path) -> tuple[str, list[tuple[str, str, str]]]:
    """Return the address of a site, and a name, role and page for each of its lines.

    Raises
    ------
    ValueError
        If a line does not have three parts, or a name is listed twice.
    """
    address, *lines = source.read_text(encoding="utf-8").splitlines()
    entries: list[tuple[str, str, str]] = []
    for number, line in enumerate(lines, start=2):
        parts = line.split()
        if len(parts) != 3 or parts[0] in {name for name, *_ in entries}:
            raise ValueError(
                f"{source.name}, line {number}: {line!r}; expected a new name, its role, and its page"
            )
        entries.append((parts[0], parts[1], parts[2]))
    return address, entries


def format_inventory(project: str, entries: list[tuple[str, str, str]]) -> bytes:
    """Return an inventory of version 2: a header, and compressed lines of names and pages."""
    header = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
    header += "# The remainder of this file is compressed using zlib.\n"
    lines = "".join(f"{name} {role} 1 {page.replace('$', name)} -\n" for name, role, page in entries)
    return header.encode() + zlib.compress(lines.encode(), 9)
