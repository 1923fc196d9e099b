"""In what the origins of two results differ, and which of it can move the score."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from harness.comparison.origins import Origin
from harness.errors import count
from harness.searchlight.settings import Searchlight
from harness.tracking.fingerprint import LEFT_OUT, NOT_COUNTED, OF_MAP_TESTS
from harness.tracking.provenance import COMPUTING_PACKAGES

ROLE_OF_PLACE = {"roi.mask": "mask", "analysis.mask": "mask", "signal.confounds_file": "confounds"}
CENTRES = "centres"  # role of the mask of the region in a searchlight
NOT_RECORDED = "not recorded"
MAX_PACKAGES = 8  # named in one line


class Effect(StrEnum):
    """Whether a difference can move the score; ``unknown`` where one run did not record it."""

    yes = "yes"
    unknown = "unknown"
    digits = "last digits"
    p_values = "p-values only"
    no = "no"


@dataclass(frozen=True)
class Difference:
    """One thing in which the origins of two results differ.

    Attributes
    ----------
    part : str
        ``choice``, ``setting``, ``data``, ``samples``, ``folds``, ``relabellings``, ``version``, ``code`` or
        ``machine``.
    effect : str
        See `Effect`.
    reason : str
        Why, in a few words; empty where it is obvious.
    """

    part: str
    name: str
    first: str
    second: str
    effect: str
    reason: str = ""


def list_differences(first: Origin, second: Origin) -> list[Difference]:
    """Return in what two origins differ, and which of it can move the score."""
    settings = list(_compare_settings(first, second))
    return [
        *_compare_choices(first, second, settings),
        *settings,
        *_compare_data(first, second),
        *_compare_relabellings(first, second),
        *_compare_folds(first, second),
        *_compare_versions(first, second),
        *_compare_code(first, second),
        *_compare_machine(first, second),
    ]


def _pair(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the names that differ, with both values; a value that is missing is None."""
    for name in dict.fromkeys([*first, *second]):
        one, other = first.get(name), second.get(name)
        # Unlike in Python, true is not 1.
        if one != other or isinstance(one, bool) != isinstance(other, bool):
            yield name, one, other


def _same_digests(first: Origin, second: Origin, role: str | None = None) -> bool:
    """Return whether the files of one role, or of all, are known to be the same."""
    if not first.digests or not second.digests:
        return False
    if role is None:
        return dict(first.digests) == dict(second.digests)
    return first.digests.get(role) == second.digests.get(role)


def _compare_choices(first: Origin, second: Origin, settings: list[Difference]) -> Iterator[Difference]:
    """Options that differ: they can move the score if a setting of their group can."""
    order = list(Effect)
    for name, one, other in _pair(first.choices, second.choices):
        if name in first.settings and name in second.settings:  # subject, engine, seed: a setting of its own
            continue
        below = [item for item in settings if item.name.split(".")[0] == name]
        if name == "location":
            same = _same_digests(first, second)
            effect = Effect.no if same else Effect.yes
            reason = "another place of the same files" if same else "the files differ, see data"
        elif below or not first.settings or not second.settings:
            alone = Effect.p_values if name == "inference" else Effect.yes
            effects = [Effect(item.effect) for item in below] or [alone]
            effect, reason = min(effects, key=order.index), ""
        else:
            effect, reason = Effect.no, "a name: its settings are the same"
        yield Difference("choice", name, _write(one), _write(other), effect, reason)


def _compare_settings(first: Origin, second: Origin) -> Iterator[Difference]:
    if not first.settings or not second.settings:
        return
    for name, one, other in _pair(first.settings, second.settings):
        effect, reason = _judge_setting(name, first, second)
        shown = [
            _write_absent(name, origin) if name not in origin.settings else _write(value)
            for origin, value in ((first, one), (second, other))
        ]
        yield Difference("setting", name, shown[0], shown[1], effect, reason)


def _write_absent(name: str, origin: Origin) -> str:
    """Return a setting that was not set, or that equals the default, which `normalise` leaves out."""
    group, _, key = name.partition(".")
    if group == "analysis" and str(origin.settings.get("analysis._target_")).endswith(".Searchlight"):
        for field in fields(Searchlight):
            if field.name == key:
                return f"{field.default:g}" if isinstance(field.default, float) else _write(field.default)
    return "not set"


def _judge_setting(name: str, first: Origin, second: Origin) -> tuple[Effect, str]:
    """Return whether a setting can move the score, and why."""
    group, _, key = name.partition(".")
    if name in ROLE_OF_PLACE:
        role = ROLE_OF_PLACE[name]
        if name == "roi.mask" and CENTRES in {**first.digests, **second.digests}:
            role = CENTRES
        same = _same_digests(first, second, role)
        return (Effect.no, "counted by its content, which is the same") if same else (Effect.yes, "")
    if any(name == place or name.startswith(f"{place}.") for place in (*first.places, *second.places)):
        same = _same_digests(first, second)
        return (Effect.no, "another place of the same files") if same else (Effect.yes, "see data")
    if group in NOT_COUNTED and group != "dataset":
        return Effect.no, "no number depends on it"
    if key in LEFT_OUT.get(group, ()):
        return Effect.no, "how the work is shared"
    if group == "analysis" and key in OF_MAP_TESTS:
        return Effect.p_values, "tests the map"
    if group == "inference":
        return Effect.p_values, "tests the score"
    return Effect.yes, ""


def _compare_data(first: Origin, second: Origin) -> Iterator[Difference]:
    # A run that failed before its data were read recorded none of them.
    recorded = bool(first.digests) and bool(second.digests)
    effect, reason = (Effect.yes, "SHA-256 of the content") if recorded else (Effect.unknown, NOT_RECORDED)
    for name, one, other in _pair(first.digests, second.digests):
        yield Difference("data", name, _shorten(one), _shorten(other), effect, reason)
    recorded = bool(first.counts) and bool(second.counts)
    effect, reason = (Effect.yes, "") if recorded else (Effect.unknown, NOT_RECORDED)
    for name, one, other in _pair(first.counts, second.counts):
        yield Difference("samples", name, _write(one), _write(other), effect, reason)


def _compare_relabellings(first: Origin, second: Origin) -> Iterator[Difference]:
    if first.relabellings != second.relabellings:
        shown = [_shorten(each.relabellings) or "no test" for each in (first, second)]
        yield Difference("relabellings", "list", shown[0], shown[1], Effect.p_values)


def _compare_folds(first: Origin, second: Origin) -> Iterator[Difference]:
    """Folds that hold out other volumes, in one line."""
    if not first.folds or not second.folds or first.folds == second.folds:
        return
    shown = [_describe_folds(origin.folds) for origin in (first, second)]
    if first.folds.keys() == second.folds.keys():
        others = [fold for fold, volumes in first.folds.items() if volumes != second.folds[fold]]
        shown = [f"fold {others[0]}: {list_ranges(origin.folds[others[0]])}" for origin in (first, second)]
        reason = f"{len(others)} of {len(first.folds)} folds hold out other volumes"
    else:
        reason = "other folds"
    yield Difference("folds", "held-out volumes", shown[0], shown[1], Effect.yes, reason)


def _describe_folds(folds: Mapping[int, tuple[int, ...]]) -> str:
    sizes = sorted({len(volumes) for volumes in folds.values()})
    size = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return f"{len(folds)} folds of {size}"


def list_ranges(volumes: tuple[int, ...], limit: int = 3) -> str:
    """Write ascending numbers as ranges, such as ``49-57, 100-108``; of more than `limit`, the first ones."""
    ranges: list[list[int]] = []
    for volume in volumes:
        if ranges and volume == ranges[-1][1] + 1:
            ranges[-1][1] = volume
        else:
            ranges.append([volume, volume])
    words = [str(start) if start == end else f"{start}-{end}" for start, end in ranges]
    return ", ".join([*words[:limit], *(["..."] if len(words) > limit else [])])


def _compare_versions(first: Origin, second: Origin) -> Iterator[Difference]:
    """Versions: a line for each package that computes, and one for all others."""
    if not first.versions or not second.versions:
        return
    others = []
    for name, one, other in _pair(first.versions, second.versions):
        shown = _write(one, NOT_RECORDED), _write(other, NOT_RECORDED)
        if name == "harness":
            same = "harness" in first.code and first.code["harness"] == second.code.get("harness")
            reason = "the code that computes is the same" if same else ""
            yield Difference("version", name, *shown, Effect.no if same else Effect.yes, reason)
        elif name == "python" or name in COMPUTING_PACKAGES or name in {**first.code, **second.code}:
            yield Difference("version", name, *shown, Effect.yes)
        else:
            others.append(f"{name} {shown[0]} / {shown[1]}")
    if others:
        listed = "; ".join(others[:MAX_PACKAGES]) + ("; ..." if len(others) > MAX_PACKAGES else "")
        names = count(len(others), "other package")
        yield Difference("version", names, "", "", Effect.no, f"compute no number: {listed}")


def _compare_code(first: Origin, second: Origin) -> Iterator[Difference]:
    known = "harness" in first.code and "harness" in second.code
    same = known and first.code["harness"] == second.code["harness"]
    for name, one, other in _pair(first.code, second.code):
        if name == "commit":
            reason = "the code that computes is the same" if same else ""
            effect = Effect.no if same else Effect.yes
        elif one is None or other is None:
            effect, reason = Effect.unknown, "one of the runs has no digest of it"
        else:
            effect, reason = Effect.yes, "SHA-256 of the code that computes"
        shown = [_shorten(each) or NOT_RECORDED for each in (one, other)]
        yield Difference("code", name, shown[0], shown[1], effect, reason)


def _compare_machine(first: Origin, second: Origin) -> Iterator[Difference]:
    if not first.machine or not second.machine:
        return
    for name, one, other in _pair(first.machine, second.machine):
        effect, reason = Effect.digits, "sums in another order"
        if one is None or other is None:
            effect, reason = Effect.unknown, ""
        elif name == "threads":
            effect, reason = Effect.no, "the solvers use one BLAS thread"
        yield Difference(
            "machine", name, _write(one, NOT_RECORDED), _write(other, NOT_RECORDED), effect, reason
        )


def _shorten(digest: str | None) -> str:
    if digest is None:
        return ""
    text, plus, note = digest.partition("+")  # a commit may be followed by +changes
    return f"{text[:12]}{plus}{note}"


def _write(value: object, absent: str = "-") -> str:
    return absent if value is None else str(value)
