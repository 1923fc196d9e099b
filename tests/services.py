"""Programs, services and data that tests require.

PostgreSQL, ``mlflow server`` and SLURM with one node are started for a test, each in a temporary directory
and on free ports of this machine, and ended after it.
"""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

# Debian keeps PostgreSQL's programs, of which several versions may be there, out of the way.
DIRECTORIES = [
    *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True),
    "/usr/sbin",
    "/usr/local/sbin",
]


def requires_all() -> bool:
    """Return whether a test whose data or programs are absent fails; ``.ci/run`` sets this where CI=true.

    CI=true alone does not: hosted runners set it, which have neither the real data nor all services.
    """
    return os.environ.get("HARNESS_TEST_REQUIRE_ALL") == "true"


def skip_or_fail(absent: str) -> None:
    """Skip the test for what is absent on this machine; fail where `requires_all`."""
    if requires_all():
        pytest.fail(absent)
    pytest.skip(absent)


def find_programs(*names: str) -> list[str]:
    """Return the paths of programs; skip the test if one is not installed, or fail."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *DIRECTORIES])
    found = {name: shutil.which(name, path=path) for name in names}
    missing = [name for name, where in found.items() if where is None]
    if missing:
        skip_or_fail(f"{', '.join(missing)} not installed; .ci/services installs what these tests need")
    return [str(where) for where in found.values()]


def require_data(path: Path) -> None:
    """Skip the test if real data are absent, or fail."""
    if not path.exists():
        skip_or_fail(f"{path} is missing; set HARNESS_TEST_DATA to the directory of the real data")


def find_port() -> int:
    """Return a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, ready: Callable[[], bool], seconds: float, log: Path | None = None) -> None:
    """Wait until `ready` returns true; otherwise fail with the end of a log."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ready():
            return
        time.sleep(0.1)
    end_of_log = log.read_text(errors="replace")[-3000:] if log is not None and log.is_file() else ""
    raise AssertionError(f"{what}: not within {seconds:g} s\n{end_of_log}")


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """Make a directory that other accounts can enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="harness-services-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start_process(
    command: list[str], output: Path, environment: Mapping[str, str], **options: Any
) -> "subprocess.Popen[bytes]":
    """Start a process whose output goes to a file, so that it is never blocked by a full pipe."""
    with output.open("ab") as stream:
        return subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT, **options)


# PostgreSQL -------------------------------------------------------------------------------------------------


@contextmanager
def start_postgres() -> Iterator[tuple[str, dict[str, str]]]:
    """Start PostgreSQL with an empty database ``mlflow``.

    Yields the URI, and the environment that holds the password, which no command line should show.
    """
    initdb, pg_ctl, createdb = find_programs("initdb", "pg_ctl", "createdb")
    # PostgreSQL refuses to run as root.
    account = "postgres" if os.geteuid() == 0 else getpass.getuser()
    before = ["runuser", "-u", account, "--"] if os.geteuid() == 0 else []
    port, password = find_port(), secrets.token_hex(8)
    with temporary_directory() as folder:
        if before:
            shutil.chown(folder, account)
        secret = folder / "password"
        secret.write_text(password)
        secret.chmod(0o644)
        data = folder / "data"

        def call(*command: str) -> None:
            with (folder / "output").open("ab") as output:  # a pipe would stay open as long as the server
                subprocess.run(
                    [*before, *command],
                    cwd=folder,
                    env=os.environ | {"PGPASSWORD": password},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=60,
                    check=True,
                )

        call(
            initdb,
            "-D",
            str(data),
            "-U",
            "mlflow",
            "--auth=scram-sha-256",
            f"--pwfile={secret}",
            "-E",
            "UTF8",
        )
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        call(pg_ctl, "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            call(createdb, "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow")
            yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow", {"PGPASSWORD": password}
        finally:
            with suppress(subprocess.SubprocessError):
                call(pg_ctl, "-D", str(data), "-m", "immediate", "stop")


# mlflow server ----------------------------------------------------------------------------------------------


class TrackingServer:
    """An ``mlflow server`` that can be stopped and started again at the same address."""

    def __init__(self, folder: Path, store: str, environment: dict[str, str]) -> None:
        self._folder, self._store, self._environment = folder, store, environment
        self._port = find_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = self._folder / "server.log"
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)),
            *("--backend-store-uri", self._store, "--workers", "2"),
            *("--artifacts-destination", str(self._folder / "artifacts")),
        ]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | self._environment
        # In a session of its own, so that its workers can be ended with it.
        self._process = start_process(command, log, environment, cwd=self._folder, start_new_session=True)
        wait_for("mlflow server", self._answers, 120, log)

    def stop(self) -> None:
        """Stop it at once, with all of its processes, as a crash would."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "server.log").read_text()[-3000:]
        try:
            with urlopen(f"{self.uri}/health", timeout=5):
                return True
        except OSError:
            return False


@contextmanager
def start_server() -> Iterator[TrackingServer]:
    """Start ``mlflow server`` on a fresh PostgreSQL."""
    with start_postgres() as (store, environment), temporary_directory() as folder:
        server = TrackingServer(folder, store, environment)
        try:
            server.start()
            yield server
        finally:
            server.stop()


# SLURM ------------------------------------------------------------------------------------------------------

SLURM_CONF = """\
ClusterName=harness
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld_port}
SlurmdPort={slurmd_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# Not available in containers: cgroups, a database of accounts, two cores of their own.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def start_slurm() -> Iterator[dict[str, str]]:
    """Start SLURM with this machine as its only node, of two cores; yields the environment to use it."""
    munged, slurmctld, slurmd, sinfo, scancel = find_programs(
        "munged", "slurmctld", "slurmd", "sinfo", "scancel"
    )
    with temporary_directory() as folder:
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        configuration = folder / "slurm.conf"
        configuration.write_text(
            SLURM_CONF.format(
                host=socket.gethostname().partition(".")[0],
                user=getpass.getuser(),
                folder=folder,
                slurmctld_port=find_port(),
                slurmd_port=find_port(),
            )
        )
        environment = {"SLURM_CONF": str(configuration)}
        munge = [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "log", "seed")]
        daemons = [
            [
                munged,
                "--foreground",
                "--force",
                f"--key-file={key}",
                f"--socket={folder}/munge.socket",
                *munge,
            ],
            [slurmctld, "-D"],
            [slurmd, "-D"],
        ]
        log = folder / "log"
        processes: list[subprocess.Popen[bytes]] = []

        def is_idle() -> bool:
            state = subprocess.run(
                [sinfo, "-h", "-o", "%T"], env=os.environ | environment, capture_output=True, text=True
            )
            return state.stdout.strip() == "idle"

        try:
            for daemon in daemons:
                processes.append(start_process(daemon, log, os.environ | environment))
                if daemon[0] == munged:
                    wait_for("munged", (folder / "munge.socket").exists, 30, log)
            wait_for("SLURM", is_idle, 60, log)
            yield environment
        finally:
            with suppress(OSError):
                subprocess.run(
                    [scancel, "--user", getpass.getuser()], env=os.environ | environment, timeout=30
                )
            # The processes of jobs end with them: slurmd is stopped last, after they had the time for it.
            time.sleep(1)
            for process in reversed(processes):
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
