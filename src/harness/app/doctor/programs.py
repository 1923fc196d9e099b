"""Programs and plugins that some commands need: launchers, the commands of SLURM, a browser."""

from __future__ import annotations

import os
import shutil
import sys
import webbrowser
from collections.abc import Iterator
from importlib import metadata

from harness.app.doctor.installation import (
    LAUNCHER_EXTRAS,
    format_command,
    format_launcher_install,
    name_plugin,
)
from harness.app.doctor.selection import Selection
from harness.checks.diagnosis import Diagnosis, Status

TEXT_BROWSERS = ("w3m", "lynx", "links", "elinks", "www-browser")


def check_launchers(selection: Selection) -> Iterator[Diagnosis]:
    """List the launchers that are installed, and whether ``sbatch`` is found."""
    for name in LAUNCHER_EXTRAS:
        distribution = name_plugin(name)
        try:
            version: str | None = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            version = None
        facts = {"version": version}
        if version is None:
            text, command = "not installed (optional)", format_launcher_install(name)
        else:
            text, command = f"{distribution} {version}", None
        yield Diagnosis("launchers", f"{name} launcher", Status.ok, text, command, facts)
    sbatch = shutil.which("sbatch")
    text = f"found: {sbatch}" if sbatch else "not found: no SLURM cluster can be used from this machine"
    yield Diagnosis("launchers", "sbatch", Status.ok, text, None, {"path": sbatch})


def check_browser(selection: Selection) -> Iterator[Diagnosis]:
    """Find the program that opens pages."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        name = None
    else:
        name = str(getattr(browser, "name", None) or type(browser).__name__)
    has_desktop = sys.platform in ("win32", "darwin") or any(
        os.environ.get(key) for key in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    facts = {"name": name, "desktop": has_desktop}
    if name is not None and has_desktop and name not in TEXT_BROWSERS:
        yield Diagnosis("browser", "pages", Status.ok, f"{name} opens pages", None, facts)
        return
    why = "no graphical desktop" if not has_desktop else "no browser" if name is None else f"only {name}"
    text = f"{why}: copy pages to another machine, or forward the port of the UI to it"
    command = (
        f"{format_command('harness', 'ui', '--no-browser')}  # and there: ssh -L 5050:127.0.0.1:5050 HOST"
    )
    yield Diagnosis("browser", "pages", Status.caution, text, command, facts)
