"""The files that runs of every analysis write, and the drawing of their pictures."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.checks.findings import Finding
from harness.errors import format_error
from harness.tracking.provenance import describe_environment


def write_settings(findings: Sequence[Finding], config: str, directory: Path) -> None:
    """Write ``audit.json`` (of an audited run), ``config.yaml`` and ``environment.txt``.

    Parameters
    ----------
    config : str
        The resolved configuration, as YAML.
    """
    if findings:
        audit = json.dumps([dict(finding.to_dict()) for finding in findings], indent=1)
        (directory / "audit.json").write_text(audit + "\n", encoding="utf-8")
    (directory / "config.yaml").write_text(config, encoding="utf-8")
    (directory / "environment.txt").write_text(describe_environment(), encoding="utf-8")


def draw_pictures(pictures: Mapping[str, Callable[[Path], None]], directory: Path) -> list[str]:
    """Draw pictures by file name; return a warning for every one that could not be drawn.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    failed = []
    for name, draw in pictures.items():
        try:
            draw(directory / name)
        except OSError:
            raise
        except Exception as error:  # the plotting packages document none
            failed.append(f"{name} could not be drawn: {format_error(error)}")
    return failed


def write_warnings(warnings: Sequence[str], directory: Path) -> None:
    """Write ``warnings.txt``, if there are any."""
    if warnings:
        (directory / "warnings.txt").write_text("\n".join(warnings) + "\n", encoding="utf-8")
