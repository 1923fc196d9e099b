"""``doctor`` compares Python and the packages with the metadata of the installed distribution."""

import ast
import importlib
import importlib.metadata
import shlex
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

import harness
from harness.app.doctor import installation, packages


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A directory of distributions, of which ``studio`` takes the place of harness; imported from first."""
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(directory)
    monkeypatch.setattr(installation, "DISTRIBUTION", "studio")
    monkeypatch.setattr(packages, "DISTRIBUTION", "studio")

    def install(name, version, *requirements, module=None):
        info = directory / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}"]
        lines += [f"Version: {version}"] if version else []
        lines += [f"Requires-Dist: {text}" for text in requirements]
        (info / "METADATA").write_text("\n".join([*lines, "Requires-Python: >=3.11,<3.14", ""]))
        if module is not None:
            (directory / f"{name.replace('-', '_')}.py").write_text(module)
            monkeypatch.delitem(sys.modules, name.replace("-", "_"), raising=False)
        importlib.invalidate_caches()

    return install


def diagnose(check):
    return {item.name: item for item in check(None)}


def test_versions_are_compared_with_the_requirements(site):
    site("studio", "1.0", "paint>=2,!=2.5", "brush>=2", "easel>=1", "lamp", "vase>=3")
    site("paint", "2.5")
    site("brush", "1.9")
    site("easel", "1.0.1")
    site("lamp", "0.1")
    found = diagnose(packages.check_requirements)
    assert {name: item.status for name, item in found.items()} == {
        "paint": "fault",
        "brush": "fault",
        "easel": "ok",
        "lamp": "ok",
        "vase": "fault",
    }
    assert found["brush"].facts == {"version": "1.9", "required": ">=2"}
    assert found["vase"].facts == {"version": None, "required": ">=3"}
    assert shlex.split(found["brush"].command)[-4:] == ["pip", "install", "--upgrade", "brush>=2"]
    assert shlex.split(found["vase"].command)[-3:] == ["pip", "install", "vase>=3"]


def test_requirements_of_other_systems_and_of_extras_do_not_count(site):
    site("studio", "1.0", "paint; sys_platform == 'amiga'", "brush; extra == 'slurm'", "easel")
    assert list(diagnose(packages.check_requirements)) == ["easel"]


def test_prereleases_of_an_allowed_version_are_allowed(site):
    site("studio", "1.0", "paint>=2")
    site("paint", "2.1rc1")
    assert diagnose(packages.check_requirements)["paint"].status == "ok"


@pytest.mark.parametrize("version", ["", "unknown"])
def test_damaged_metadata_are_a_fault(site, version):
    site("studio", "1.0", "paint>=2")
    site("paint", version)
    assert diagnose(packages.check_requirements)["paint"].status == "fault"


def test_without_packaging_missing_packages_are_found_nevertheless(site, monkeypatch):
    site("studio", "1.0", "paint>=2", "brush>=2", "easel; sys_platform == 'amiga'")
    site("paint", "1.0")
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    found = diagnose(packages.check_requirements)
    assert {name: item.status for name, item in found.items()} == {"paint": "caution", "brush": "fault"}


def test_extras_are_optional_unless_a_version_of_theirs_is_wrong(site):
    needs = ["paint>=2; extra == 'joblib'", "brush>=2; extra == 'slurm'", "easel>=2; extra == 'docs'"]
    site("studio", "1.0", *needs, "studio[docs,slurm]; extra == 'dev'")
    site("paint", "2.0")
    site("brush", "1.0")
    found = diagnose(packages.check_extras)
    assert found["extras"].facts == {"installed": ["joblib"], "not_installed": ["docs"]}
    assert (found["extra slurm"].status, found["extra slurm"].facts) == ("caution", {"brush": "1.0"})


def test_package_that_cannot_be_imported_is_a_fault(site):
    site("studio", "1.0", "paint>=2", "brush", "scikit-easel")
    site("paint", "2.0", module="raise OSError('libpaint.so: wrong ELF class')")
    site("brush", "1.0", module="import paint_thinner")
    site("scikit-easel", "1.0", module="")
    found = diagnose(packages.check_imports)
    assert {name: item.status for name, item in found.items()} == {
        "import paint": "fault",
        "import brush": "fault",
        "imports": "ok",
    }
    assert "wrong ELF class" in found["import paint"].text
    assert "--force-reinstall --no-deps 'paint>=2'" in found["import paint"].command
    assert found["import brush"].command.endswith("pip install paint_thinner")
    assert found["imports"].facts["imported"] == ["scikit-easel"]


def test_packages_that_need_a_broken_one_name_it_without_a_command_of_their_own(site):
    site("studio", "1.0", "brush", "canvas", "paint>=2")
    for name in ("brush", "canvas"):
        site(name, "1.0", module="import paint")
    site("paint", "2.0", module="raise ImportError('libpaint.so: wrong ELF class')")
    found = diagnose(packages.check_imports)
    assert found["import paint"].command.endswith("install --force-reinstall --no-deps 'paint>=2'")
    for name in ("brush", "canvas"):
        assert found[f"import {name}"].status == "fault"
        assert "because of paint" in found[f"import {name}"].text
        assert found[f"import {name}"].command is None


def test_requirement_of_a_package_is_that_of_the_metadata(site):
    site("studio", "1.0", "mlflow-skinny>=1", "mlflow<4,>=3.16")
    assert installation.find_requirement("mlflow") == "mlflow<4,>=3.16"
    assert installation.find_requirement("absent") == "absent"


def test_import_that_ends_the_program_is_a_fault(site):
    site("studio", "1.0", "quitter")
    site("quitter", "1.0", module="raise SystemExit(3)")
    assert diagnose(packages.check_imports)["import quitter"].status == "fault"


@pytest.mark.parametrize("path", [[""], None])
def test_own_file_with_the_name_of_a_package_is_found(site, tmp_path, monkeypatch, path):
    site("studio", "1.0", "paint")
    site("paint", "2.0", module="")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "paint.py").write_text("")
    monkeypatch.chdir(tmp_path / "work")
    if path is not None:
        monkeypatch.setattr(sys, "path", [*path, *sys.path])
        found = diagnose(packages.check_imports)
        assert [item.status for item in found.values()] == ["fault", "caution"], "one cause, one fault"
        fault = found["file paint"]
        assert shlex.split(fault.command)[1:] == [
            str(tmp_path / "work" / name) for name in ("paint.py", "my_paint.py")
        ]
    else:  # the console script does not import from there
        assert "file paint" not in diagnose(packages.check_imports)


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ((3, 9, 18), "fault"),
        ((3, 10, 13), "fault"),
        ((3, 11, 0), "ok"),
        ((3, 13, 9), "ok"),
        ((3, 14, 0), "fault"),
    ],
)
def test_python_is_compared_with_the_versions_that_are_allowed(monkeypatch, version, status):
    monkeypatch.setattr(
        packages, "sys", SimpleNamespace(version_info=version, executable="/bin/python", platform="linux")
    )
    (found,) = packages.check_python(None)
    assert found.status == status
    assert found.facts["version"] == ".".join(map(str, version))
    if status == "fault":
        assert found.command.startswith("python3.13 -m venv ")


def test_allowed_versions_of_python_are_those_of_the_metadata():
    required = importlib.metadata.metadata("fmri-decoding-harness")["Requires-Python"]
    assert {*required.split(",")} == {">=3.11", "<3.14"}
    assert (packages.LOWEST_PYTHON, packages.TOO_NEW_PYTHON) == ((3, 11), (3, 14))


def test_checkout_that_is_not_installed_has_the_requirements_of_its_project_file(monkeypatch):
    installed = installation.read_installation()
    real = importlib.metadata.metadata

    def hide(name):
        if name == "fmri-decoding-harness":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "metadata", hide)
    checkout = installation.read_installation()
    assert checkout.version is None
    file = Path(__file__).parents[2] / "pyproject.toml"
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    assert checkout.python == project["requires-python"]
    assert set(project["dependencies"]) <= set(checkout.requirements)
    slurm = project["optional-dependencies"]["slurm"]
    assert {f'{text}; extra == "slurm"' for text in slurm} <= set(checkout.requirements)
    assert len(checkout.requirements) == len(installed.requirements)
    assert [item.status for item in packages.check_harness(None)] == ["caution"]


def test_modules_that_doctor_imports_first_can_be_imported_by_python_3_9():
    """Its syntax is that of Python 3.9, annotations are not evaluated, and no import is of a package."""
    root = Path(harness.__file__).parent
    names = [
        "__main__",
        "errors",
        "app/streams",
        "app/verbs/__init__",
        "app/verbs/arguments",
        "app/verbs/doctor",
    ]
    names += ["tracking/provenance", "checks/diagnosis", "report/diagnosis_table"]
    files = [root / f"{name}.py" for name in names] + sorted((root / "app" / "doctor").glob("[!_]*.py"))
    for file in [*files, root / "__init__.py", root / "app" / "__init__.py"]:
        tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {(getattr(node, "module", None) or node.names[0].name).split(".")[0] for node in top}
        assert modules <= {*sys.stdlib_module_names, "harness"}, file
        assert not any(isinstance(node, ast.Match) for node in ast.walk(tree)), file
        if file in files:
            assert "__future__" in modules, file


def test_commands_quote_words_for_the_shell(monkeypatch):
    monkeypatch.setattr(installation.sys, "executable", "/opt/my env/bin/python")
    assert installation.format_install("numpy>=2").startswith("'/opt/my env/bin/python' -m pip install")
    assert installation.format_install("numpy>=2").endswith(" 'numpy>=2'")
