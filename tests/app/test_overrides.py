"""Arguments and overrides in the order and with the quotes that Hydra requires."""

from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_module

from harness.app.overrides import format_command, quote_override


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("tracking.folder=/tmp/dätä/sub folder", "/tmp/dätä/sub folder"),
        ("roi.mask=~/roi.nii.gz", str(Path("~/roi.nii.gz").expanduser())),
        (r"roi.mask=C:\data\roi.nii.gz", r"C:\data\roi.nii.gz"),
        ("roi.mask='already quoted'", "already quoted"),
    ],
)
def test_paths_are_taken_as_they_are_typed(typed, value):
    with initialize_config_module("harness.conf", version_base="1.3"):
        config = hydra_compose("config", [quote_override(typed)])
    assert value in (config.tracking.folder, config.roi.mask)


def test_a_command_is_quoted_for_the_shell_with_its_directory_after_the_verb():
    words = ["dataset=mine", "roi.mask=my mask.nii.gz"]
    assert format_command(words) == "python -m harness dataset=mine 'roi.mask=my mask.nii.gz'"
    shown = format_command(words[:1], Path("my options"), ["-cn", "tutorial/dummy"])
    assert shown == "python -m harness -cn tutorial/dummy --config-dir 'my options' dataset=mine"
