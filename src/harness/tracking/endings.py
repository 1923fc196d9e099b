"""How a run ended, noted beside its store: for the next opening, where the store itself cannot be written."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

Status = Literal["FAILED", "KILLED"]
N_BYTES = 4096  # of a note: one block of most file systems
MAX_REASON = 600  # characters; in JSON and UTF-8 one takes at most 6 bytes, those of a control character


@dataclass(frozen=True)
class Ending:
    """The end of a run.

    Attributes
    ----------
    status : {"FAILED", "KILLED"}
    reason : str
    """

    status: Status
    reason: str


class EndingNote:
    """A file whose space is reserved when the run begins, so that a full disk cannot lose the end of the run.

    File systems that write every change to a new block (btrfs, ZFS) give no such guarantee.

    Parameters
    ----------
    file : Path
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def reserve(self) -> None:
        """Reserve the space; raise OSError if the disk is full."""
        self.file.write_bytes(b" " * N_BYTES)

    def write(self, ending: Ending) -> None:
        """Write the end; raise OSError if that is impossible, or no space was reserved."""
        short = asdict(ending) | {"reason": ending.reason[:MAX_REASON]}
        content = json.dumps(short, ensure_ascii=False).encode(errors="replace").ljust(N_BYTES)
        with self.file.open("r+b") as opened:
            opened.write(content)

    def read(self) -> Ending | None:
        """Return the end; None if there is none, or none that can be read.

        There is none where the process was killed, and a power cut can leave anything in its place.
        """
        try:
            content = json.loads(self.file.read_bytes())
        except (FileNotFoundError, ValueError, RecursionError):  # a JSONDecodeError is a ValueError
            return None
        if not isinstance(content, dict) or content.get("status") not in get_args(Status):
            return None
        return Ending(content["status"], content["reason"]) if "reason" in content else None

    def remove(self) -> None:
        """Remove the file, which a run whose end is in the store does not need."""
        self.file.unlink(missing_ok=True)
