"""The messages that docs/faq.md quotes are those of the program: every command of the page is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from processes import harness as run_harness

PAGE = (Path(__file__).parents[2] / "docs" / "faq.md").read_text()
# Indented blocks that begin with a command: one or several commands, then what the last one prints.
BLOCKS = re.findall(r"((?:^    \$ .+\n)+)((?:^    (?!\$ ).+\n)+)", PAGE, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def directory(tmp_path_factory, simulated_cache):
    """A directory with a stored run."""
    directory = tmp_path_factory.mktemp("faq")
    run_harness(directory, "estimator=dummy", "cv=holdout30", "figures=off")
    return directory


def test_the_page_quotes_messages():
    assert len(BLOCKS) > 15
    assert all("error: " in message for _, message in BLOCKS)


@pytest.mark.slow
@pytest.mark.parametrize(("commands", "message"), BLOCKS, ids=[block[0].strip()[2:60] for block in BLOCKS])
def test_the_program_prints_the_message_of_the_page(directory, commands, message):
    script = "\n".join(line.strip().removeprefix("$ ") for line in commands.splitlines())
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.run(
        ["bash", "-ec", script], cwd=directory, env=environment, capture_output=True, text=True, timeout=300
    )
    assert process.returncode in (1, 2), process.stdout + process.stderr
    pattern = ".*".join(map(re.escape, message.strip().split("...")))
    last = process.stderr.strip().splitlines()[-1]
    assert re.fullmatch(pattern, last), f"{last!r} is not {message.strip()!r}"
