"""The ledger of a sweep: jobs are claimed once, and their outcomes are read back."""

import multiprocessing

import pytest

from harness.tracking.ledger import SWEEP_DIRECTORY_VARIABLE, Outcome, Sweep, current_sweep


@pytest.fixture
def sweep(tmp_path):
    return Sweep.begin(tmp_path)


def do(sweep, job, status="finished"):
    """Claim a job and record its outcome; return whether it could be claimed."""
    with sweep.claim(job, [f"subject={job}"]) as claimed:
        if claimed:
            sweep.record(Outcome(job, status, (f"subject={job}",), f"sub-{job}", f"run-{job}"))
        return claimed


def test_sweep_ids_sort_by_time_and_differ(tmp_path):
    first, second = Sweep.begin(tmp_path), Sweep.begin(tmp_path)
    assert first.id != second.id
    assert first.id[:15] <= second.id[:15]
    assert not first.directory.exists(), "nothing is created for a usage error"


def test_the_environment_holds_the_sweep(tmp_path, monkeypatch):
    sweep = Sweep.begin(tmp_path)
    monkeypatch.setenv(SWEEP_DIRECTORY_VARIABLE, str(sweep.directory))
    assert current_sweep().id == sweep.id


def test_a_job_runs_once(sweep):
    assert do(sweep, 3)
    assert not do(sweep, 3)
    (outcome,) = sweep.outcomes()
    assert (outcome.job, outcome.status, outcome.overrides, outcome.run_id) == (
        3,
        "finished",
        ("subject=3",),
        "run-3",
    )
    assert sweep.count() == {"finished": 1}


def test_a_job_that_another_process_claimed_cannot_be_claimed(sweep):
    with sweep.claim(0, []) as claimed:
        assert claimed
        assert sweep.claimed_now() == [0]
        with multiprocessing.get_context("fork").Pool(1) as other:
            assert other.apply(do, (sweep, 0)) is False
    assert sweep.claimed_now() == []
    assert sweep.unfinished(2) == [0, 1]


def test_only_allowed_jobs_can_be_claimed_and_none_after_a_stop(sweep):
    sweep.limit_to([1])
    assert not do(sweep, 0)
    assert do(sweep, 1)
    sweep.limit_to([0])
    sweep.stop()
    assert not do(sweep, 0)


def test_a_job_that_raises_can_be_claimed_again(sweep):
    with pytest.raises(ZeroDivisionError), sweep.claim(0, []):
        raise ZeroDivisionError
    assert sweep.unfinished() == [0]
    assert do(sweep, 0)
