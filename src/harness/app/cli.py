"""The verbs that are not a run, such as ``python -m harness fetch``, ``inspect``, ``runs`` and ``ui``."""

import argparse
import hashlib
import json
import math
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

from harness.errors import HarnessError, UsageError, escape_controls

if TYPE_CHECKING:
    import pandas as pd

    from harness.app.composition import Request
    from harness.datasets.recording import Recording
    from harness.tracking.queries import Selection

MAX_NAME = 120  # letters of a directory's name; file systems take 255 bytes


def run_verb(arguments: list[str]) -> int:
    """Do what a verb asks.

    Parameters
    ----------
    arguments : list of str
        The verb and its arguments.

    Returns
    -------
    status : int
        0 if it was done, 1 if it failed, 2 if the request makes no sense.
    """
    verb, *rest = arguments
    try:
        if verb not in VERBS:
            near = get_close_matches(verb, VERBS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"unknown verb {verb!r}; expected one of: {', '.join(VERBS)}.{hint} "
                "A run takes GROUP=OPTION or KEY=VALUE, such as estimator=svc; see python -m harness --help"
            )
        return VERBS[verb](rest)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def compare(arguments: list[str]) -> int:
    """Print the runs of a store side by side.

    Parameters
    ----------
    arguments : list of str

    Returns
    -------
    status : int
    """
    parser = _parser("compare", "Lay the newest runs side by side, the best first.")
    _add_store_arguments(parser)
    _add_filter_arguments(parser)
    _add_listing_arguments(parser, most=100)
    options = parser.parse_intermixed_args(arguments)

    from harness.report.tables import print_comparison
    from harness.tracking.comparison import compare_runs

    selection, uri = _read_selection(options), _store_uri(options)
    comparison = compare_runs(uri, selection, options.most)
    print_comparison(comparison)
    if comparison.runs.empty:
        _print_seen_values(uri, selection)
    _write_table(options.csv, comparison.runs)
    return 0


def runs(arguments: list[str]) -> int:
    """List runs, or sweeps, the newest first.

    Parameters
    ----------
    arguments : list of str

    Returns
    -------
    status : int
    """
    parser = _parser("runs", "List the newest runs, or sweeps, and their status.")
    _add_store_arguments(parser)
    _add_filter_arguments(parser, with_sweeps=True)
    _add_listing_arguments(parser, most=50)
    options = parser.parse_intermixed_args(arguments)

    from harness.report.tables import print_runs, print_sweeps
    from harness.tracking.comparison import list_runs, tabulate_sweeps
    from harness.tracking.queries import list_sweeps

    if options.sweeps:
        if options.conditions or options.sweep:
            what = options.conditions[0] if options.conditions else f"--sweep {options.sweep}"
            raise UsageError(
                f"--sweeps lists whole sweeps, which {what} cannot select; leave one of them out"
            )
        sweeps = list_sweeps(_store_uri(options), options.experiment)
        print_sweeps(sweeps[: options.most], len(sweeps))
        _write_table(options.csv, tabulate_sweeps(sweeps))
        return 0
    selection, uri = _read_selection(options), _store_uri(options)
    listed = list_runs(uri, selection, options.most)
    print_runs(listed, reasons=options.failed)
    if listed.runs.empty:
        _print_seen_values(uri, selection)
    _write_table(options.csv, listed.runs)
    return 0


def relocate(arguments: list[str]) -> int:
    """Let a store that was moved find its artifacts again.

    Parameters
    ----------
    arguments : list of str

    Returns
    -------
    status : int
    """
    parser = _parser(
        "relocate",
        "Mend a run store that was moved or copied with its folder, so that its files are found again. "
        "The next run in it does so, too.",
    )
    _add_folder_argument(parser)
    options = parser.parse_args(arguments)

    from harness.tracking.store import relocate_store

    relocation = relocate_store(options.folder)
    for place, n_runs in relocation.mended.items():
        print(f"mended   {n_runs} runs: {place} is now {(options.folder.resolve() / 'artifacts').as_uri()}")
    for place, experiments in relocation.elsewhere.items():
        print(f"left     {', '.join(experiments)}: the files are in {place}, not beside this store")
    if not relocation.mended:
        print(f"nothing had to be mended in {options.folder.resolve()}")
    return 0


def ui(arguments: list[str]) -> int:
    """Open MLflow's pages on a local store, with two processes where ``mlflow ui`` starts fifteen.

    Parameters
    ----------
    arguments : list of str

    Returns
    -------
    status : int
    """
    parser = _parser("ui", "Serve MLflow's pages on this machine, until Ctrl-C.")
    _add_folder_argument(parser)
    parser.add_argument(
        "--port",
        type=int,
        choices=range(1, 65536),
        metavar="PORT",
        help="port on 127.0.0.1 (default: 5050, or a free one)",
    )
    opened = parser.add_mutually_exclusive_group()
    opened.add_argument("--sweep", metavar="ID", help="open the view of this sweep (default: the latest)")
    opened.add_argument("--run", metavar="ID", help="open the page of this run; its first letters are enough")
    parser.add_argument("--no-browser", action="store_true", help="print the links and open nothing")
    options = parser.parse_args(arguments)

    from harness.tracking.comparison import open_local_store
    from harness.tracking.mlflow_views import experiment_link, prepare_views
    from harness.tracking.queries import find_run, find_sweep, list_experiments, list_sweeps
    from harness.tracking.store import UI_PORT, run_link

    uri = open_local_store(options.folder)
    run = None if options.run is None else find_run(options.run, uri)
    experiments = list_experiments(uri)
    sweeps = list_sweeps(uri)
    sweep = find_sweep(options.sweep or "latest", sweeps, uri) if options.sweep or sweeps else None
    port = options.port or (UI_PORT if _is_free(UI_PORT) else _free_port())
    if not _is_free(port):
        raise UsageError(f"--port {port} is in use; choose another, or leave it out to be given a free one")
    address = f"http://127.0.0.1:{port}"
    views = {}
    if run is not None:
        views[f"run {run.info.run_id}"] = run_link(address, run.info.experiment_id, run.info.run_id)
    try:
        views |= prepare_views(uri, address, sweep)
    except Exception as error:  # undocumented, and the pages are worth opening without
        print(f"no prepared view ({type(error).__name__}: {error}); the links below work", file=sys.stderr)
    for title, link in views.items():
        print(f"{title}: {link}")
    print(f"MLflow on {uri}")
    plain = {name: experiment_link(address, identifier) for name, identifier in experiments.items()}
    for name, link in plain.items():
        print(f"  {name}: {link}")
    print("Ctrl-C ends it.", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--uvicorn-opts", "--log-level warning"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    # A session of its own, so that the server's children end with it, however this process is ended.
    server = subprocess.Popen(command, env=os.environ | quiet, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    first = next(iter([*views.values(), *plain.values()]), address)
    try:
        if not options.no_browser and _can_browse():
            threading.Thread(target=_open_browser, args=(address, first, server), daemon=True).start()
        return server.wait()
    finally:
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
        else:
            server.terminate()


def _can_browse() -> bool:
    """Return whether somebody sits in front of a screen, who would see a browser."""
    screen = sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return screen and sys.stdout.isatty()


def _open_browser(address: str, link: str, server: "subprocess.Popen[bytes]") -> None:
    """Open a link once the server answers; before, the browser would show an error."""
    while server.poll() is None:
        with suppress(OSError), urlopen(f"{address}/health", timeout=5):
            webbrowser.open(link)
            return
        time.sleep(0.3)


def cache(arguments: list[str]) -> int:
    """List, check, trim or clear the cache of masked volumes.

    Parameters
    ----------
    arguments : list of str

    Returns
    -------
    status : int
        1 if `check` found damaged entries.
    """
    parser = _parser("cache", "What is kept of images that were read, so that they are not read again.")
    parser.add_argument("action", nargs="?", default="list", choices=["list", "check", "trim", "clear"])
    parser.add_argument("--to", type=float, default=5.0, metavar="GB", help="trim to this size (default: 5)")
    options = parser.parse_args(arguments)

    from harness.report.tables import print_cache
    from harness.samples.cache import SampleCache

    if not 0 <= options.to < math.inf:
        raise UsageError(f"--to {options.to} is not a size; expected GB, from 0, such as --to 5")
    kept = SampleCache(enabled=True)
    if options.action == "list":
        print_cache(kept)
        return 0
    if options.action == "check":
        damaged = kept.check()
        for name, reason in damaged.items():
            print(f"removed {name}: {reason}")
        print(f"{len(kept.entries())} entries are sound; {len(damaged)} were damaged and will be made anew")
        return 1 if damaged else 0
    if options.action == "trim":
        print(f"removed {len(kept.trim(int(options.to * 1e9)))} entries, the least recently used")
        return 0
    kept.clear()
    print(f"cleared {kept.folder}")
    return 0


def inspect(arguments: list[str]) -> int:
    """Write a page on what one looks at before decoding.

    Parameters
    ----------
    arguments : list of str
        Overrides, as a run takes them.

    Returns
    -------
    status : int
    """
    parser = _parser("inspect", "Look at a subject before decoding: images, design, shapes, signal quality.")
    _add_override_arguments(parser, "dataset=haxby subject=2 roi=face")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="directory of the page (default: one per question in mlruns/inspect)",
    )
    options = parser.parse_intermixed_args(arguments)

    from harness.app.composition import compose_request

    request = compose_request(options.overrides, options.config_dir)

    from harness.checks.inspection import inspect_recording
    from harness.report.inspection_page import write_page
    from harness.samples.cache import SampleCache

    recording = request.dataset.load(request.subject)
    cache = SampleCache(enabled=None if request.cache else False)
    inspection = inspect_recording(recording, request.contrast, request.roi, request.signal, cache)
    folder = options.out or Path("mlruns") / "inspect" / _name_page(request, recording)
    own = [] if options.config_dir is None else ["--config-dir", str(options.config_dir)]
    command = shlex.join(["python", "-m", "harness", *own, *options.overrides])
    try:
        page, *others = write_page(inspection, folder.absolute(), command)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error}; choose another folder with --out") from error
    for notice in inspection.notices:
        print(escape_controls(notice))
    for file in others:
        print(f"file     {file}")
    print(f"page     {page}")
    return 0


def _name_page(request: "Request", recording: "Recording") -> str:
    """Name the directory of a page by what the page shows: two questions never share one."""
    from harness.app.settings import normalise
    from harness.datasets.images import list_files
    from harness.samples.contrasts import file_word

    shown = {group: request.asked[group] for group in ("dataset", "subject", "contrast", "roi", "signal")}
    files = [str(file.resolve()) for file in list_files(recording.bold)]
    page = json.dumps(normalise([shown, files]), sort_keys=True, default=str)
    digest = hashlib.sha256(page.encode(errors="backslashreplace")).hexdigest()
    words = f"{recording.dataset}_sub-{recording.subject}_{request.contrast.name}_{request.roi.name}"
    return f"{file_word(words)[:MAX_NAME]}-{digest[:8]}"


def fetch(arguments: list[str]) -> int:
    """Download subjects, or make them, and check them.

    Parameters
    ----------
    arguments : list of str
        Overrides that choose data set and subjects.

    Returns
    -------
    status : int
        1 if a subject could not be fetched, or is not what was published; the others are fetched.
    """
    parser = _parser("fetch", "Download subjects (or make simulated ones), and check that they are whole.")
    _add_override_arguments(parser, "dataset=haxby subject=1,2")
    options = parser.parse_intermixed_args(arguments)

    from harness.app.composition import compose_requests

    failed = 0
    for request in compose_requests(options.overrides, options.config_dir):
        print(f"{request.params['dataset']} subject {request.subject}", flush=True)
        try:
            # Not every data set has something to download.
            recording = getattr(request.dataset, "fetch", request.dataset.load)(request.subject)
            _print_files(recording)
            verify = getattr(request.dataset, "verify", None)
            print(f"  {'complete' if verify is None else verify(recording)}", flush=True)
        except HarnessError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr, flush=True)
    return 1 if failed else 0


def _print_files(recording: "Recording") -> None:
    from harness.datasets.images import list_files

    files = [*list_files(recording.bold), *list_files(recording.labels_file), *recording.masks.values()]
    files += [recording.anat] if recording.anat is not None else []
    for file in files:
        print(f"  {file.stat().st_size / 1e6:10.3f} MB  {file}")
    if recording.notice is not None:
        print(f"  {escape_controls(recording.notice)}")


def _add_override_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    parser.add_argument(
        "overrides", nargs="*", metavar="GROUP=OPTION", help=f"as for a run, such as {example}"
    )
    parser.add_argument("--config-dir", "-cd", type=Path, metavar="DIR", help="folder of your own options")


VERBS: dict[str, Callable[[list[str]], int]] = {
    "cache": cache,
    "compare": compare,
    "runs": runs,
    "ui": ui,
    "relocate": relocate,
    "inspect": inspect,
    "fetch": fetch,
}


def _parser(verb: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"python -m harness {verb}", description=description)


def _add_folder_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", type=Path, default=Path("mlruns"), help="folder of a local store (default: mlruns)"
    )


def _add_store_arguments(parser: argparse.ArgumentParser) -> None:
    _add_folder_argument(parser)
    parser.add_argument("--uri", help="tracking URI of a server, instead of a folder")


def _add_listing_arguments(parser: argparse.ArgumentParser, most: int) -> None:
    parser.add_argument("--experiment", help="one experiment, such as 'haxby decoding' (default: all)")
    parser.add_argument("--sweep", metavar="ID", help="only the runs of this sweep; latest is the newest")
    parser.add_argument(
        "--most", type=_run_count, default=most, metavar="N", help=f"at most N (default: {most})"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table to FILE")


def _add_filter_arguments(parser: argparse.ArgumentParser, with_sweeps: bool = False) -> None:
    """Add what runs are selected by; --sweeps excludes the other options of its group."""
    parser.add_argument(
        "conditions",
        nargs="*",
        metavar="NAME=VALUE",
        help="only runs with this parameter, such as subject=2 estimator=svc,lda (a comma: any of these)",
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--status", help="only FINISHED, FAILED, KILLED or RUNNING, or several with commas")
    kinds.add_argument(
        "--failed", action="store_true", help="only runs that failed or were killed; `runs` gives the reasons"
    )
    if with_sweeps:
        kinds.add_argument("--sweeps", action="store_true", help="list the sweeps instead of their runs")


def _read_selection(options: argparse.Namespace) -> "Selection":
    from harness.tracking.queries import UNSUCCESSFUL, Selection, parse_conditions, parse_statuses

    statuses = UNSUCCESSFUL if options.failed else parse_statuses(options.status) if options.status else ()
    return Selection(options.experiment, options.sweep, statuses, parse_conditions(options.conditions))


def _print_seen_values(uri: str, selection: "Selection") -> None:
    """Print which values the newest runs have of the parameters that no run was found by."""
    from harness.tracking.queries import seen_values

    for name, values in seen_values(uri, selection).items():
        near = get_close_matches(selection.params[name][0], values, n=1)
        hint = f" Did you mean {name}={near[0]}?" if near else ""
        print(escape_controls(f"{name} of the newest runs: {', '.join(values) or 'none'}.{hint}"))


def _run_count(text: str) -> int:
    from harness.tracking.queries import MAX_RUNS

    with suppress(ValueError):
        if 1 <= int(text) <= MAX_RUNS:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of runs; expected 1 to {MAX_RUNS}")


def _write_table(file: Path | None, table: "pd.DataFrame") -> None:
    if file is None:
        return
    from harness.report.spreadsheets import write_csv

    try:
        write_csv(table, file)
    except OSError as error:
        raise UsageError(f"--csv {file} cannot be written: {error}; choose another file") from error
    print(f"table    {file.resolve()}")


def _store_uri(options: argparse.Namespace) -> str:
    if options.uri:
        from harness.tracking.store import check_server, reach_server

        check_server(options.uri)
        reach_server(options.uri)
        return str(options.uri)
    from harness.tracking.comparison import open_local_store

    return open_local_store(options.folder)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
