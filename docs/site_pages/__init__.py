"""What the documentation site generates from the code: references, studies, inventories, and a diagram.

`conf.py` calls `write_pages` and `write_inventories` before Sphinx reads the sources. The pages that they
write are not in the repository.
"""

from pathlib import Path

from site_pages.commands_page import format_commands_page
from site_pages.configuration_page import format_configuration_page
from site_pages.included_pages import list_including_pages


def write_pages(docs: Path) -> list[Path]:
    """Write every generated page below the directory of the sources, and return their paths.

    A page whose text is unchanged is not written, so that Sphinx does not read it again.
    """
    pages = {
        docs / "reference" / "configuration.md": format_configuration_page(),
        docs / "reference" / "commands.md": format_commands_page(),
        **list_including_pages(docs.parent, docs),
    }
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    return list(pages)
