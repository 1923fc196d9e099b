"""What a worker does when the process that started its sweep dies."""

import os
import subprocess
import sys
import time

import pytest

from harness.tracking.ledger import SWEEP_DIRECTORY_VARIABLE, Sweep


@pytest.mark.skipif(sys.platform == "win32", reason="a process of Windows does not notice its parent's end")
def test_a_worker_ends_with_the_main_process_of_its_sweep(tmp_path):
    sweep = Sweep.begin(tmp_path)
    main = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    code = (
        "import time; from harness.app.worker import end_with_process; "
        f"end_with_process({main.pid}); print('watching', flush=True); time.sleep(300)"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {SWEEP_DIRECTORY_VARIABLE: str(sweep.directory)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout.readline() == "watching\n"
    time.sleep(1)
    assert worker.poll() is None
    main.kill()
    main.wait()
    assert worker.communicate(timeout=60) == ("", None)
    assert worker.returncode == 1
    assert not sweep.directory.exists(), "a sweep without jobs is not stopped"
