"""A parser of flags that names the closest one for a flag that does not exist."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from harness.errors import suggest


class ArgumentParser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` whose message on an unknown flag suggests the closest one."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with status 2."""
        found = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if found is not None:
            lines = re.findall(r"^ +(-.*?)(?:  |$)", self.format_help(), flags=re.MULTILINE)
            flags = re.findall(r"(?<![\w-])--[\w-]+", "\n".join(lines))
            hint = suggest(found[1], dict.fromkeys(flags))
            message += f".{hint}" if hint else ""
        super().error(message)
