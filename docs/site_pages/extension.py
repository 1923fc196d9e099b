"""The Sphinx extension: links to included files, and the diagram of imports as a directive."""

from typing import TYPE_CHECKING, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive

from site_pages.import_diagram import count_imports, draw_diagram, list_counts, read_layers, reduce_arrows
from site_pages.included_pages import find_addresses, rewrite_links

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class ImportDiagram(Directive):
    """``{import-diagram}``: which packages of harness import which, as SVG inside the page.

    An image file would not follow the colours of the page, which can be light or dark.
    """

    has_content = False
    option_spec: ClassVar[dict[str, object]] = {}

    def run(self) -> list[nodes.Node]:
        """Return the SVG as HTML."""
        layers = read_layers()
        counts = count_imports("harness", [name for layer in layers for name in layer])
        svg = draw_diagram(layers, reduce_arrows(counts))
        rows = ""
        for name, targets in list_counts(layers, counts):
            listed = ", ".join(f"<code>{target}</code> {count}" for target, count in targets)
            rows += f"<tr><td><code>{name}</code></td><td>{listed}</td></tr>"
        html = (
            f'<div class="import-diagram">{svg}</div><div class="pst-scrollable-table-container">'
            '<table class="docutils align-default table import-table">'
            "<thead><tr><th>package</th><th>imports from</th></tr></thead>"
            f"<tbody>{rows}</tbody></table></div>"
        )
        return [nodes.raw("", html, format="html")]


def setup(app: "Sphinx") -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.add_directive("import-diagram", ImportDiagram)
    app.connect("source-read", _rewrite_source)
    app.connect("html-page-context", _style_messages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _rewrite_source(app: "Sphinx", document: str, source: list[str]) -> None:
    """Point links of a page, such as ``../experiments/NAME.md``, to the page that includes the file."""
    path = str(app.env.doc2path(document, base=False))
    if path.endswith(".md"):
        source[0] = rewrite_links(source[0], path, find_addresses(app.srcdir.parent))


def _style_messages(app: "Sphinx", page: str, *_: object) -> None:
    """Break the lines of messages, which are sentences, in the page that lists them."""
    if page == "faq":
        app.add_css_file("messages.css")
