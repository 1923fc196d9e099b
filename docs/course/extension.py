"""The Sphinx extension of the course: the language of the Chinese pages."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: "Sphinx") -> dict[str, bool]:
    """Give the Chinese pages their language."""
    app.connect("html-page-context", set_language)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def set_language(app: "Sphinx", pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Set ``lang`` of a Chinese page, by which browsers choose fonts and screen readers voices."""
    if pagename.startswith("course/zh/"):
        context["language"] = "zh-CN"
