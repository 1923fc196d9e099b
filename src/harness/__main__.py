"""The command line: ``python -m harness`` and the console script ``harness``."""

from __future__ import annotations

import errno
import gc
import sys

from harness.app.streams import flush_streams, protect_streams

VERSION_FLAGS = ("--version", "-V")


def main() -> None:
    """Run a verb or a run, and exit with its status; at least 1 if its output could not be written."""
    # Imports create half a million objects: at Python's default threshold, the garbage collector visits them
    # hundreds of times, about a tenth of the first command. Peak memory rises by less than 2 %.
    gc.set_threshold(50_000, 20, 20)
    files = protect_streams()
    try:
        status = _run(sys.argv[1:])
    except KeyboardInterrupt:  # while packages are imported
        status = 130
    except SystemExit as error:  # raised by argparse and Hydra
        status = error.code
    finally:
        # Otherwise the garbage collection at exit takes more than a second, for half a million objects.
        gc.freeze()
    lost = flush_streams(files)
    # A reader that closes the pipe early, such as `head`, does not call for a message.
    if lost and not all(error.errno == errno.EPIPE for error in lost):
        print(
            f"error: standard output cannot be written: {lost[0].strerror}; choose another device. "
            "Results of runs are in the store nevertheless",
            file=sys.stderr,
        )
    sys.exit(status or (1 if lost else 0))


def _run(arguments: list[str]) -> int | str | None:
    """Run a verb, or a run with overrides and flags."""
    first = arguments[0] if arguments else ""
    if first in VERSION_FLAGS:
        return _print_version(arguments)
    if first in ("-sc", "--shell-completion"):
        from harness.app.completion import complete, is_query

        if is_query(arguments):
            return complete(arguments)
    if first and not first.startswith(("-", "+", "~")) and "=" not in first:
        from harness.app.verbs import run_verb

        return run_verb(arguments)
    from harness.app.entry import run

    return run(arguments)


def _print_version(arguments: list[str]) -> int:
    """Print the versions of the harness, of Python, and of the packages that a result depends on."""
    if arguments[1:]:
        print(
            f"error: {arguments[0]} takes no other arguments; leave out: {' '.join(arguments[1:])}",
            file=sys.stderr,
        )
        return 2
    from importlib.metadata import PackageNotFoundError, version
    from platform import python_version

    from harness.tracking.provenance import DISTRIBUTION

    try:
        print(f"harness {version(DISTRIBUTION)}")
    except PackageNotFoundError:  # a checkout on the search path
        print("harness (version unknown: not installed)")
    packages = [f"{name} {version(name)}" for name in ("nilearn", "scikit-learn", "mlflow", "hydra-core")]
    print(", ".join([f"Python {python_version()}", *packages]))
    return 0


if __name__ == "__main__":
    main()
