"""Sphinx: how the documentation site is built. ``sphinx-build -W -b html docs docs/_build/html``."""

import sys
from pathlib import Path

from harness.tracking.provenance import package_versions

sys.path.append(str(Path(__file__).parent / "course"))  # of the extension `figures`

project = "harness"
author = "The harness developers"
project_copyright = author
release = package_versions().get("harness", "")
version = release.partition("+")[0]

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
    "figures",  # docs/course/figures.py
]
exclude_patterns = ["_build", "**/README.*"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # an included page may begin below the first level

html_theme = "pydata_sphinx_theme"
html_title = "harness"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}

numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "examples",
    "filename_pattern": r"/plot_",
    "download_all_examples": False,
}
