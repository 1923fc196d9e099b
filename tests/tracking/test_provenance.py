"""Digests, versions and commits, against hashlib, the packages and git themselves."""

import importlib.util
import platform
import shutil
import subprocess

import mlflow
import nilearn
import numpy as np
import pytest
import sklearn

from harness.tracking import provenance


@pytest.fixture
def load_copy(tmp_path, monkeypatch):
    """Import a copy of the module from another place, as if the package were installed there."""
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):  # set where tests run in a git hook
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))

    def load(folder, version="0.1.0"):
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "provenance.py"
        shutil.copy(provenance.__file__, file)
        spec = importlib.util.spec_from_file_location("provenance_copy", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(module, "package_versions", lambda: {"harness": version})
        return module

    return load


def git(folder, *words):
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_package_versions_are_what_the_packages_say_of_themselves():
    versions = provenance.package_versions()
    assert versions["python"] == platform.python_version()
    for name, package in (("numpy", np), ("scikit-learn", sklearn), ("nilearn", nilearn), ("mlflow", mlflow)):
        assert versions[name] == package.__version__


def test_a_package_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package-at-all"))
    assert set(provenance.package_versions()) == {"python", "numpy"}


def test_the_environment_is_a_requirements_file():
    lines = provenance.describe_environment().splitlines()
    assert lines[0] == f"# Python {platform.python_version()}"
    assert f"numpy=={np.__version__}" in lines
    packages = [line for line in lines if not line.startswith("#")]
    assert all(line.count("==") == 1 for line in packages)
    assert packages == sorted(packages, key=lambda line: line.split("==")[0].lower())


def test_no_commit_outside_of_a_checkout(load_copy, tmp_path):
    assert load_copy(tmp_path / "site-packages").git_commit() is None


def test_an_installed_package_says_which_commit_it_was_built_from(load_copy, tmp_path):
    module = load_copy(tmp_path / "site-packages", version="0.1.1.dev61+g4a334ffc0.d20261121")
    assert module.git_commit() == "4a334ffc0"


def test_no_commit_without_git(load_copy, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load_copy(tmp_path / "site-packages").git_commit() is None


def test_the_commit_of_a_checkout_and_whether_it_was_changed(load_copy, tmp_path):
    checkout = tmp_path / "checkout"
    module = load_copy(checkout / "src")
    git(tmp_path, "init", "-q", str(checkout))
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "one")
    commit = git(checkout, "rev-parse", "HEAD")
    assert len(commit) == 40
    assert module.git_commit() == commit
    (checkout / "notes.txt").write_text("not tracked")
    module.git_commit.cache_clear()
    assert module.git_commit() == commit
    with (checkout / "src" / "provenance.py").open("a") as stream:
        stream.write("\n# changed\n")
    assert module.git_commit() == commit  # of the code that this process has loaded
    module.git_commit.cache_clear()
    assert module.git_commit() == f"{commit}+changes"


def test_a_package_installed_inside_somebody_elses_checkout_is_not_of_that_checkout(load_copy, tmp_path):
    checkout = tmp_path / "study"
    checkout.mkdir()
    git(tmp_path, "init", "-q", str(checkout))
    (checkout / "paper.txt").write_text("text")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "one")
    assert load_copy(checkout / ".venv" / "site-packages").git_commit() is None


def test_a_broken_installation_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "broken-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert "numpy==" in provenance.describe_environment()
