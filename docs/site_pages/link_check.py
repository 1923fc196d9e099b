"""Whether every local link of the built site, and every fragment in it, has a target."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Collects the links of a page, and the names that links can point to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Collect what one tag has."""
        for key, value in attributes:
            if value is None:
                continue
            if key == "id" or (key == "name" and tag == "a"):
                self.names.add(value)
            elif key in ("href", "src", "data-src", "poster"):
                self.links.append(value)


def find_broken_links(site: Path) -> list[str]:
    """Return, for each broken local link, the page and the link.

    A link is local if it has no scheme and no host. Its file has to be inside the site, and its fragment
    the ``id`` of an element there.
    """
    # Below _static are templates of the theme, which no reader opens.
    found_pages = [
        path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts
    ]
    pages = {path.resolve(): read_page(path) for path in found_pages}
    if not pages:
        raise FileNotFoundError(f"{site} has no pages; build them: python -m sphinx -b html docs {site}")
    root = site.resolve()
    broken = []
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not link:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            found = target.exists() and target.is_relative_to(root)
            if found and parts.fragment and target in pages:
                found = unquote(parts.fragment) in pages[target].names
            if not found:
                broken.append(f"{path.relative_to(root)}: {link}")
    return broken


def read_page(path: Path) -> _Page:
    """Return the links of a page, and the names that links can point to."""
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page
