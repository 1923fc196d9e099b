"""Processes of ``python -m harness``, and their runs, read by MLflow's own client."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing


def harness(folder, *arguments, check=True, **environment):
    """Run ``python -m harness`` in a directory and return the finished process."""
    process = subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if check:
        assert process.returncode == 0, process.stdout + process.stderr
    return process


def read_runs(folder):
    """Return the client of a directory's store and its runs, the newest first."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{(folder / 'mlruns' / 'mlflow.db').as_posix()}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client, client.search_runs(experiments)


def is_running(database):
    """Return whether a run is RUNNING, without MLflow, which would create the store as well."""
    if not database.is_file():
        return False
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        try:
            return ("RUNNING",) in connection.execute("SELECT status FROM runs").fetchall()
        except sqlite3.OperationalError:  # the tables are being created
            return False
