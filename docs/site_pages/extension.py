"""The Sphinx extension: links to included files and to types, and the diagram of imports as a directive."""

from typing import TYPE_CHECKING, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive

from site_pages.import_diagram import count_imports, draw_diagram, list_counts, read_layers, reduce_arrows
from site_pages.included_pages import find_addresses, rewrite_links

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

STYLES = {"faq": "messages.css", "reference/configuration": "configuration.css"}


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
    app.connect("missing-reference", _link_type)
    app.connect("html-page-context", _add_style)
    app.connect("html-page-context", _end_languages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _rewrite_source(app: "Sphinx", document: str, source: list[str]) -> None:
    """Point links of a page, such as ``../experiments/NAME.md``, to the page that includes the file."""
    path = str(app.env.doc2path(document, base=False))
    if path.endswith(".md"):
        source[0] = rewrite_links(source[0], path, find_addresses(app.srcdir.parent))


def _link_type(
    app: "Sphinx", environment: "BuildEnvironment", node: nodes.Element, content: nodes.Element
) -> nodes.Element | None:
    """Link a class, in a signature under the name of its module, to its page under its public name."""
    module, _, name = node["reftarget"].rpartition(".")
    if node.get("refdomain") != "py" or not name[:1].isupper() or not f"{module}.".startswith(("harness.", ".")):
        return None
    domain = environment.domains.python_domain
    found = [known for known in domain.objects if known.startswith("harness.") and known.endswith(f".{name}")]
    if len(found) != 1:
        return None
    return domain.resolve_xref(environment, node["refdoc"], app.builder, "obj", found[0], node, content)


def _add_style(app: "Sphinx", page: str, *_: object) -> None:
    """Add the style that one page needs."""
    if page in STYLES:
        app.add_css_file(STYLES[page])


def _end_languages(app: "Sphinx", page: str, template: str, context: dict, doctree: object) -> None:
    """Remove "next" and "previous" between the Chinese pages of the course and other pages."""
    outside = "/" if page.startswith("course/zh/") else "zh/"
    for key in ("prev", "next"):
        if context.get(key) and outside in context[key]["link"]:
            context[key] = None
