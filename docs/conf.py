"""Sphinx: how the documentation site is built. ``python -m sphinx -W -b html docs docs/_build/html``."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

import harness  # noqa: E402
from harness.tracking.provenance import package_versions  # noqa: E402
from site_pages import write_pages  # noqa: E402
from site_pages.inventories import write_inventories  # noqa: E402

project = "harness"
author = "The harness developers"
project_copyright = author
release = package_versions().get("harness", "")
version = release.partition("+")[0]

write_pages(DOCS)

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_gallery.gen_gallery",
    "site_pages.extension",
    "course.extension",
]
# sphinx-gallery writes its times also without `write_computation_times`.
exclude_patterns = ["_build", "**/README.*", "sg_execution_times.rst", "**/sg_execution_times.rst"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # an included page may begin below the first level
default_role = "py:obj"  # single backticks in docstrings are names

# No network is needed: names of other projects are listed in inventories/.
intersphinx_mapping = write_inventories(DOCS / "inventories", DOCS / "_build" / "inventories")
intersphinx_disabled_reftypes = []

html_theme = "pydata_sphinx_theme"
html_title = "harness"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "static/favicon.svg"
# Not the theme's image_light and image_dark: it copies those after a failed build, too, to a *file* _static,
# on which every later build fails.
html_logo = "static/favicon.svg"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 7,
    "logo": {"text": "harness"},
    "navbar_align": "left",
    "navigation_with_keys": False,
    # The wide tables of the keys take the place of the table of contents.
    "secondary_sidebar_items": {"**": ["page-toc"], "reference/configuration": []},
    "show_toc_level": 2,
}

templates_path = ["templates"]
autosummary_generate = True
# Methods of scikit-learn's base classes, which its own documentation describes.
autosummary_context = {
    "skipped_methods": [
        *("get_metadata_routing", "get_params", "score", "set_fit_request", "set_params"),
        "set_score_request",
    ]
}
autodoc_typehints = "signature"  # docstrings leave out entries that repeat it
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # words of descriptions that are no types
numpydoc_xref_aliases = {
    **{name: name for name in harness.__all__ if name[0].isupper()},
    **{name: name for name in ("FittedDecoder", "PatternMap", "RecordedSamples", "SampleCache", "WeightMap")},
    "DataFrame": "pandas.DataFrame",
    "Path": "pathlib.Path",
    "array": "numpy.ndarray",
    "ndarray": "numpy.ndarray",
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "examples",
    "filename_pattern": r"/plot_",
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
}
