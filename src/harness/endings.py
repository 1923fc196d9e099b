"""How a run ended, noted beside its store: for the next opening, where the store itself cannot be written."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

N_BYTES = 4096  # of a note: one block of most file systems
MAX_REASON = 600  # characters, which take at most 6 bytes each


@dataclass(frozen=True)
class Ending:
    """The end of a run.

    Attributes
    ----------
    status : {"FAILED", "KILLED"}
    reason : str
    """

    status: Literal["FAILED", "KILLED"]
    reason: str


class EndingNote:
    """A file that has room for the end of a run from its beginning, so that a full disk does not matter.

    File systems that write every change to a new block (btrfs, ZFS) give no such guarantee.

    Parameters
    ----------
    file : Path
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def reserve(self) -> None:
        """Take the room; raise OSError if there is none."""
        self.file.write_bytes(b" " * N_BYTES)

    def write(self, ending: Ending) -> None:
        """Note the end; raise OSError if that is impossible, or no room was reserved."""
        short = asdict(ending) | {"reason": ending.reason[:MAX_REASON]}
        content = json.dumps(short).encode("ascii").ljust(N_BYTES)
        with self.file.open("r+b") as opened:
            opened.write(content)

    def read(self) -> Ending | None:
        """Return the end; None if there is none, as where the process was killed."""
        content = self.file.read_bytes().strip() if self.file.is_file() else b""
        return Ending(**json.loads(content)) if content else None

    def remove(self) -> None:
        """Remove the file, which a run whose end is in the store does not need."""
        self.file.unlink(missing_ok=True)
