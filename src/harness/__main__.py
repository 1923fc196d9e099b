"""The front door: ``python -m harness`` and the console script ``harness``."""

import gc
import sys


def main() -> None:
    """Hand a bare verb to `harness.cli`, and everything else, overrides and flags, to the run."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(f"harness {version('harness')}")
        return
    try:
        sys.exit(_run(arguments))
    except KeyboardInterrupt:  # while packages are imported
        sys.exit(130)
    finally:
        # Else Python, as it ends, looks for more than a second at half a million objects of packages.
        gc.freeze()


def _run(arguments: list[str]) -> int:
    first = arguments[0] if arguments else ""
    if first and not first.startswith(("-", "+", "~")) and "=" not in first:
        from harness.cli import run_verb

        return run_verb(arguments)
    from harness.app import run

    return run(arguments)


if __name__ == "__main__":
    main()
