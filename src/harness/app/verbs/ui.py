"""``ui``: the MLflow UI on a local store, opened at a prepared table of runs."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from contextlib import suppress
from urllib.request import urlopen

from harness.app.verbs.arguments import add_folder_argument
from harness.errors import UsageError

MAX_PORT = 65535
HOST = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_folder_argument(parser)
    parser.add_argument(
        "--port", type=_parse_port, metavar="PORT", help=f"port on {HOST} (default: 5050, or a free one)"
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--sweep", metavar="ID", help="open the runs of this sweep (default: the latest)")
    start.add_argument("--run", metavar="ID", help="open this run; the first characters of its ID are enough")
    parser.add_argument("--no-browser", action="store_true", help="print the links without opening a browser")


def run(options: argparse.Namespace) -> int:
    """Print the links, open the first of them, and serve the UI until Ctrl-C or SIGTERM."""
    from harness.tracking.store import local_store_uri

    uri = local_store_uri(options.folder)
    port = _find_port(options.port)
    address = f"http://{HOST}:{port}"
    links, experiments = _make_links(options, uri, address)
    for title, link in links.items():
        print(f"{title}: {link}")
    print(f"MLflow on {uri}")
    for name, link in experiments.items():
        print(f"  {name}: {link}")
    print("Ctrl-C ends it.", flush=True)
    first = next(iter([*links.values(), *experiments.values()]), address)
    browse = not options.no_browser and _can_browse()
    return _serve(uri, port, first if browse else None)


def _make_links(options: argparse.Namespace, uri: str, address: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return links to the run and the sweeps to open, by title, and links to every experiment, by name."""
    from harness.tracking.mlflow_views import experiment_link, prepare_views
    from harness.tracking.queries import find_run, list_experiments
    from harness.tracking.store import run_link
    from harness.tracking.sweep_notes import find_sweep, list_sweeps

    links = {}
    if options.run is not None:
        info = find_run(options.run, uri, with_groups=True).info
        links[f"run {info.run_id}"] = run_link(address, info.experiment_id, info.run_id)
    sweeps = list_sweeps(uri)
    sweep = find_sweep(options.sweep or "latest", sweeps, uri) if options.sweep or sweeps else None
    try:
        links |= prepare_views(uri, address, sweep)
    except Exception as error:  # prepared views are undocumented, and the UI works without them
        print(f"no prepared view ({type(error).__name__}: {error}); the links below work", file=sys.stderr)
    return links, {name: experiment_link(address, key) for name, key in list_experiments(uri).items()}


def _serve(uri: str, port: int, link: str | None) -> int:
    """Run ``mlflow ui`` with two processes (fifteen by default), and open a link once it answers."""
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--uvicorn-opts", "--log-level warning"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    # In a session of its own, so that the server's children end with it, however this process ends.
    server = subprocess.Popen(command, env=os.environ | quiet, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        if link is not None:
            health = f"http://{HOST}:{port}/health"
            threading.Thread(target=_open_browser, args=(link, health, server), daemon=True).start()
        return server.wait()
    finally:
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
        else:
            server.terminate()


def _can_browse() -> bool:
    """Return whether the command was typed in a terminal of a graphical desktop."""
    desktop = sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return desktop and sys.stdout.isatty()


def _open_browser(link: str, health: str, server: "subprocess.Popen[bytes]") -> None:
    """Open a link once the server answers; before, the browser would show an error."""
    while server.poll() is None:
        with suppress(OSError), urlopen(health, timeout=5):
            webbrowser.open(link)
            return
        time.sleep(0.3)


def _parse_port(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= MAX_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port; expected 1 to {MAX_PORT}, such as 5050")


def _find_port(port: int | None) -> int:
    """Return the port that was given, if it is free; else that of the UI, or any free one."""
    from harness.tracking.store import UI_PORT

    for candidate in [UI_PORT, 0] if port is None else [port]:
        with suppress(OSError), socket.create_server((HOST, candidate)) as probe:
            return int(probe.getsockname()[1])
    raise UsageError(f"--port {port} is in use; choose another, or leave it out to use a free one")
