"""The extra ``docs`` installs everything that the build of the site imports."""

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
OWN = {"harness", "site_pages", "course"}
IMPORT = re.compile(r"^ *(?:from|import) (\w+)(?:\.[\w.]+)?(?: import| as|$)", re.MULTILINE)
DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "pyyaml", "docutils": "sphinx"}  # by import


def test_modules_that_the_site_imports_are_required():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["docs"]]
    files = [*(ROOT / "docs").rglob("*.py"), *(ROOT / "examples").glob("*.py")]
    imported = set()
    for file in files:
        imported |= set(IMPORT.findall(file.read_text(encoding="utf-8")))
    assert {"grimp", "nilearn"} <= imported
    third = imported - OWN - set(sys.stdlib_module_names)
    assert {DISTRIBUTIONS.get(name, name) for name in third} <= {Requirement(line).name for line in lines}
