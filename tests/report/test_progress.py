"""The status line of a sweep."""

from collections import Counter

import pytest

from harness.report import progress
from harness.report.progress import ProgressBar, SweepProgress


@pytest.fixture
def clock(monkeypatch):
    """Return a dictionary whose ``now`` is the time in seconds."""
    clock = {"now": 100.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock["now"])
    return clock


def test_status_line_counts_jobs_and_estimates_the_time_left(clock):
    counts = Counter(finished=3, failed=1, killed=1, skipped=5)
    status = SweepProgress(lambda: counts, total=20)
    clock["now"] += 50
    # Five jobs were computed in 50 s, ten remain; skipped ones take no time.
    assert status.describe() == "3 done, 2 failed, 5 skipped, 10 remaining, about 1:40 left (0:50)"


def test_status_line_of_a_sweep_of_unknown_length_has_no_remaining_jobs(clock):
    clock["now"] += 3700
    status = SweepProgress(lambda: Counter(finished=1), total=None)
    clock["now"] += 3700
    assert status.describe() == "1 done, 0 failed, 0 skipped (1:01:40)"


def test_the_last_line_is_printed_when_the_sweep_ends(capsys):
    with SweepProgress(lambda: Counter(finished=2), total=2):
        pass
    assert capsys.readouterr().err == "2 done, 0 failed, 0 skipped, 0 remaining (0:00)\n"


def test_a_sweep_without_jobs_prints_no_line(capsys):
    with SweepProgress(Counter, total=None):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shown", [True, False])
def test_a_run_prints_nothing_where_no_bar_is_drawn(capsys, shown):
    with ProgressBar("run", shown) as report:
        report("decoding", 1, 10)
    assert capsys.readouterr() == ("", "")
