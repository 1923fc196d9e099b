"""What is examined: the data set and the store that overrides choose, also where Hydra cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.app.doctor.installation import format_reinstall
from harness.checks.diagnosis import Diagnosis, Status
from harness.errors import UsageError, format_error


@dataclass(frozen=True)
class Selection:
    """The data set, the subjects and the store that are examined.

    Attributes
    ----------
    dataset : str
        Name of the option.
    options : dict of str to object
        Options of the data set, such as ``data_dir``.
    loader : object or None
        The data set; None where no configuration can be composed.
    tracking : str
        ``local``, ``server`` or ``off``.
    store_directory : Path
        Directory of a local store.
    uri : str or None
        Tracking URI of a server.
    verify : bool
        Whether files are read to their end and compared with published digests.
    """

    dataset: str
    options: dict[str, Any]
    subjects: tuple[int, ...]
    loader: Any
    tracking: str
    store_directory: Path
    uri: str | None
    verify: bool


def select(
    overrides: list[str], config_dir: Path | None, verify: bool
) -> tuple[Selection, BaseException | None]:
    """Return what overrides choose, and why no run can be composed, if that is so.

    Raises
    ------
    UsageError
        If the overrides are wrong, and not the environment.
    """
    try:
        from harness.app.composition import compose_requests

        specs = compose_requests(overrides, config_dir)
    except (Exception, SystemExit) as error:
        if isinstance(error, UsageError) and (overrides or config_dir is not None) and _is_wrong_usage(error):
            raise
        return _read_words(overrides, verify), _find_cause(error)
    first, tracking = specs[0], specs[0].config["tracking"]
    selection = Selection(
        dataset=first.choices["dataset"].partition("[")[0],
        options={key: value for key, value in first.config["dataset"].items() if key != "_target_"},
        subjects=tuple(dict.fromkeys(spec.subject for spec in specs)),
        loader=first.dataset,
        tracking=str(tracking["kind"]),
        store_directory=Path(tracking["folder"]),
        uri=tracking["uri"],
        verify=verify,
    )
    return selection, None


def describe_composition(
    selection: Selection, error: BaseException | None, has_package_fault: bool
) -> Diagnosis:
    """Return whether a run can be composed; faults of packages are to be repaired first."""
    facts = {"dataset": selection.dataset, "subjects": selection.subjects, "tracking": selection.tracking}
    if error is None:
        text = f"dataset={selection.dataset} tracking={selection.tracking}: a run can be composed"
        return Diagnosis("configuration", "composition", Status.ok, text, None, facts)
    text = f"a run cannot be composed: {format_error(error)}"
    text += "; repair the packages first" if has_package_fault else ""
    repair = None if has_package_fault else format_reinstall()
    return Diagnosis("configuration", "composition", Status.fault, text, repair, facts)


def _find_cause(error: BaseException) -> BaseException:
    """Return the import that failed, if that is why an exception was raised, else the exception."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ImportError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error


def _is_wrong_usage(error: UsageError) -> bool:
    """Return whether the overrides are at fault: nothing lacks, and the defaults can be composed."""
    if isinstance(_find_cause(error), ImportError):
        return False
    from hydra import compose

    from harness.app.composition import composing

    try:
        with composing():
            compose("config")
    except Exception:
        return False
    return True


def _read_words(overrides: list[str], verify: bool) -> Selection:
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
        options=options,
        subjects=subjects or (2,),
        loader=None,
        tracking=words.get("tracking", "local"),
        store_directory=Path(words.get("tracking.folder", "mlruns")),
        uri=words.get("tracking.uri"),
        verify=verify,
    )
