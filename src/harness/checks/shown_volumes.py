"""Which single volumes an inspection shows: indices and conditions, as ``volumes=0,17,face`` lists them."""

import csv
import re
from collections.abc import Sequence

import numpy as np

from harness.datasets.recording import Recording
from harness.errors import HarnessError, UsageError, suggest
from harness.samples.blocks import find_blocks
from harness.samples.contrasts import Contrast
from harness.samples.samples import choose_volumes
from harness.samples.signal import Signal

KEY = "volumes="
EXPECTED = (
    "expected indices of volumes, counted from 0, and names of conditions, for example, volumes=0,17,face"
)
N_DEFAULT = 6  # volumes that are shown without the word, evenly spread from the first to the last
N_PER_CONDITION = 4
MAX_SHOWN = 36  # four volumes of each of the eight conditions of Haxby's study and of rest


def parse_volumes(word: str) -> tuple[int | str, ...]:
    """Return the indices and conditions of a word such as ``volumes=0,17,face`` or ``volumes=[0,17]``.

    A whole number is an index; everything else is the name of a condition, which may be in double quotes.

    Raises
    ------
    UsageError
        If the list is empty, an index is negative or not a whole number, or an entry occurs twice.
    """
    text = word.removeprefix(KEY).strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        names = next(csv.reader([text], skipinitialspace=True), [""]) or [""]
    except csv.Error as error:
        raise UsageError(f"{word!r} cannot be read ({error}); {EXPECTED}") from error
    entries: list[int | str] = []
    for name in (name.strip() for name in names):
        if not name:
            raise UsageError(f"{word!r} has an empty entry; {EXPECTED}")
        # Python reads at most 4300 digits. Too large an index is reported with the number of volumes.
        entry = int(name) if re.fullmatch(r"[+-]?[0-9]{1,4000}", name) else name
        if isinstance(entry, int) and entry < 0:
            raise UsageError(f"{word!r}: {name} is negative; {EXPECTED}")
        if isinstance(entry, str) and _is_number(entry):
            raise UsageError(f"{word!r}: {name} is not a whole number; {EXPECTED}")
        if entry in entries:
            raise UsageError(f"{word!r} lists {name} twice; list each volume and condition once")
        entries.append(entry)
    return tuple(entries)


def find_shown_volumes(
    entries: Sequence[int | str], recording: Recording, contrast: Contrast, signal: Signal
) -> list[int]:
    """Return the indices of volumes that are shown, each once, in the order of `entries`.

    A condition stands for one volume of each of its first four blocks: the first one that the contrast
    selects, or the first of the block where it selects none.

    Parameters
    ----------
    entries : sequence of int or str
        See `parse_volumes`. Without any, six volumes from the first to the last.

    Raises
    ------
    UsageError
        If an index is too large, a condition unknown, or there are more than 36 volumes.
    """
    n_volumes = len(recording.labels)
    if not entries:
        return sorted(set(np.linspace(0, n_volumes - 1, N_DEFAULT).round().astype(int).tolist()))
    shown = recording.labels["condition"].to_numpy(dtype=str)
    blocks = find_blocks(shown, recording.labels["run"].to_numpy())
    is_selected = np.zeros(n_volumes, dtype=bool)
    try:
        is_selected[choose_volumes(recording, contrast, signal)[0]] = True
    except HarnessError:
        pass  # the inspection reports it
    indices: list[int] = []
    for entry in entries:
        if isinstance(entry, int):
            if entry >= n_volumes:
                raise UsageError(
                    f"volumes: {entry} is out of range; the recording has {n_volumes} volumes, 0 to "
                    f"{n_volumes - 1}"
                )
            indices.append(entry)
        else:
            if entry not in shown:
                names = sorted(set(shown.tolist()))
                raise UsageError(
                    f"volumes: unknown condition {entry!r}; expected indices of volumes or one of: "
                    f"{', '.join(names)}.{suggest(entry, names)}"
                )
            indices += _first_of_blocks(np.flatnonzero(shown == entry), blocks, is_selected)
    indices = list(dict.fromkeys(indices))
    if len(indices) > MAX_SHOWN:
        raise UsageError(
            f"volumes: {len(indices)} volumes are too many for one page; list at most {MAX_SHOWN} (a "
            f"condition counts as up to {N_PER_CONDITION})"
        )
    return indices


def _first_of_blocks(rows: np.ndarray, blocks: np.ndarray, is_selected: np.ndarray) -> list[int]:
    found = []
    for block in np.unique(blocks[rows])[:N_PER_CONDITION]:
        members = rows[blocks[rows] == block]
        selected = members[is_selected[members]]
        found.append(int(selected[0] if len(selected) else members[0]))
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.lower().strip("+-") not in ("nan", "inf", "infinity")
