"""The table of ``doctor``: plain text and JSON, made with the standard library of Python 3.9 alone."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from harness.checks.diagnosis import Diagnosis, Status, find_worst
from harness.errors import escape_controls

FORMAT = 1  # of the JSON document; raised when a key is removed or changes its meaning
FILE_WIDTH = 120  # columns, where the output is not a terminal
MIN_WIDTH = 60


def print_diagnoses(diagnoses: Sequence[Diagnosis], seconds: float) -> None:
    """Print a line for every diagnosis, in groups, and under it the command that repairs it."""
    width = max(shutil.get_terminal_size().columns, MIN_WIDTH) if sys.stdout.isatty() else FILE_WIDTH
    name_width = max(len(item.name) for item in diagnoses)
    group = None
    for item in diagnoses:
        if item.group != group:
            group = item.group
            print(f"\n{group}" if item is not diagnoses[0] else group)
        head = f"  {item.status:<8}{item.name:<{name_width}}  "
        text = escape_controls(" ".join(item.text.split()))
        lines = textwrap.wrap(
            text, max(width - len(head), 30), break_long_words=False, break_on_hyphens=False
        )
        print("\n".join((head if i == 0 else " " * len(head)) + line for i, line in enumerate(lines or [""])))
        if item.command is not None:
            # On one line, whatever the width, so that it can be copied.
            purpose = "install" if item.status == Status.ok else "repair"
            print(f"{'':10}{purpose}: {escape_controls(item.command)}")
    print(f"\n{_summarise(diagnoses)} ({seconds:.1f} s)")


def _summarise(diagnoses: Sequence[Diagnosis]) -> str:
    counts = {status: sum(item.status == status for item in diagnoses) for status in Status}
    text = ", ".join(f"{counts[status]} {status}" for status in Status)
    if counts[Status.fault]:
        return f"{text}: something that is required is missing or broken; type the commands after `repair:`"
    return f"{text}: everything that is required is there"


def format_json(diagnoses: Sequence[Diagnosis], seconds: float) -> str:
    """Return the JSON document of the diagnoses; docs/doctor.md describes its keys."""
    digests = [
        item.facts["digest"] for item in diagnoses if item.group == "environment" and "digest" in item.facts
    ]
    status = find_worst(diagnoses)
    document: dict[str, Any] = {
        "format": FORMAT,
        "status": status,
        "exit_status": int(status == Status.fault),
        "environment_digest": next(iter(digests), None),
        "seconds": round(seconds, 3),
        "checks": [
            {
                "group": item.group,
                "name": item.name,
                "status": item.status,
                "text": item.text,
                "command": item.command,
                "facts": dict(item.facts),
            }
            for item in diagnoses
        ],
    }
    return json.dumps(document, indent=1, default=str)
