"""What is examined: the data set and the store that overrides choose, also where Hydra cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.app.doctor.installation import format_reinstall
from harness.checks.diagnosis import FAULT, OK, Diagnosis
from harness.errors import UsageError, format_error


@dataclass(frozen=True)
class Selection:
    """The data set, the subjects and the store that are examined.

    Attributes
    ----------
    dataset : str
        Name of the option.
    named : bool
        Whether the user named a data set, which then has to be usable.
    options : dict of str to object
        Options of the data set, such as ``data_dir``.
    loader : object or None
        The data set; None where no configuration can be composed.
    tracking : str
        ``local``, ``server`` or ``off``.
    folder : Path
        Directory of a local store.
    uri : str or None
        Tracking URI of a server.
    verify : bool
        Whether files are read to their end and compared with published digests.
    """

    dataset: str
    named: bool
    options: dict[str, Any]
    subjects: tuple[int, ...]
    loader: Any
    tracking: str
    folder: Path
    uri: str | None
    verify: bool


def select(
    overrides: list[str], config_dir: Path | None, verify: bool, has_package_fault: bool
) -> tuple[Selection, Diagnosis]:
    """Return what overrides choose, and whether a configuration can be composed.

    Parameters
    ----------
    has_package_fault : bool
        Whether a fault of a package was found, which is to be repaired first.

    Raises
    ------
    UsageError
        If the overrides are wrong, and not the environment.
    """
    named = any(word.lstrip("+").partition("=")[0].split(".")[0] == "dataset" for word in overrides)
    try:
        from harness.app.composition import compose_requests

        specs = compose_requests(overrides, config_dir)
    except (Exception, SystemExit) as error:
        if isinstance(error, UsageError) and (overrides or config_dir is not None) and _composes():
            raise
        text = f"a run cannot be composed: {format_error(_find_cause(error))}"
        repair = None if has_package_fault else format_reinstall()
        text += "; repair the packages first" if has_package_fault else ""
        broken = Diagnosis("configuration", "composition", FAULT, text, repair)
        return _read_words(overrides, named, verify), broken
    first, tracking = specs[0], specs[0].config["tracking"]
    selection = Selection(
        dataset=first.choices["dataset"].partition("[")[0],
        named=named,
        options={key: value for key, value in first.config["dataset"].items() if key != "_target_"},
        subjects=tuple(dict.fromkeys(spec.subject for spec in specs)),
        loader=first.dataset,
        tracking=str(tracking["kind"]),
        folder=Path(tracking["folder"]),
        uri=tracking["uri"],
        verify=verify,
    )
    text = f"dataset={selection.dataset} tracking={selection.tracking}: a run can be composed"
    return selection, Diagnosis("configuration", "composition", OK, text)


def _find_cause(error: BaseException) -> BaseException:
    """Return the import that failed, if that is why an exception was raised, else the exception."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ImportError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error


def _composes() -> bool:
    """Return whether a run without overrides can be composed, so that the overrides are at fault."""
    from harness.app.composition import compose_requests

    try:
        compose_requests([])
    except (Exception, SystemExit):
        return False
    return True


def _read_words(overrides: list[str], named: bool, verify: bool) -> Selection:
    """Read overrides without Hydra: plain words only, and the defaults of the rest."""
    words = dict(word.lstrip("+").partition("=")[::2] for word in overrides)
    options = {
        key[len("dataset.") :]: value.strip("'\"")
        for key, value in words.items()
        if key.startswith("dataset.")
    }
    subjects = tuple(int(part) for part in words.get("subject", "").split(",") if part.isdecimal())
    return Selection(
        dataset=words.get("dataset", "simulated"),
        named=named,
        options=options,
        subjects=subjects or (2,),
        loader=None,
        tracking=words.get("tracking", "local"),
        folder=Path(words.get("tracking.folder", "mlruns")),
        uri=words.get("tracking.uri"),
        verify=verify,
    )
