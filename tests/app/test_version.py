"""``harness --version``."""

import sys
from importlib.metadata import version

import pytest

from harness.__main__ import main


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version_names_the_packages_that_a_result_depends_on(monkeypatch, capsys, flag):
    monkeypatch.setattr(sys, "argv", ["harness", flag])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"harness {version('fmri-decoding-harness')}"
    for name in ("nilearn", "scikit-learn", "mlflow"):
        assert f"{name} {version(name)}" in second
    assert "Python {}.{}.{}".format(*sys.version_info[:3]) in second


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["harness", "--version"])
    monkeypatch.setattr("harness.tracking.provenance.DISTRIBUTION", "a-distribution-that-is-not-installed")
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "harness (version unknown: not installed)"
    assert f"nilearn {version('nilearn')}" in second


def test_version_takes_no_other_words(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["harness", "--version", "subject=1"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err == ("error: --version takes no other arguments; leave out: subject=1\n")
