"""The machine: processors, BLAS libraries and their threads, speed of one processor, memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from harness.app.doctor.selection import Selection
from harness.checks.diagnosis import Diagnosis, Status

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
LITTLE_MEMORY = 2_000_000_000  # bytes; the tutorial as a plain script of nilearn takes 1.2 GB
N_VOLUMES, N_VOXELS = 216, 577  # face against cat in ventral temporal cortex of Haxby's subject 1
MEASURED_SECONDS = 0.4
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # bytes, or "max"


def check_processors(selection: Selection) -> Iterator[Diagnosis]:
    """Count the processors that this process may use."""
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    with suppress(ImportError):  # it also knows the limits of containers
        import joblib

        usable = min(usable, joblib.cpu_count())
    text = f"{usable} of {total} processors can be used" if usable < total else f"{total} processors"
    yield Diagnosis("machine", "processors", Status.ok, text, None, {"total": total, "usable": usable})


def check_blas(selection: Selection) -> Iterator[Diagnosis]:
    """List the BLAS and OpenMP libraries with their threads."""
    # SciPy and scikit-learn load libraries of their own, so all three count.
    import numpy as np  # noqa: F401
    import scipy.linalg  # noqa: F401
    import sklearn  # noqa: F401
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController().info()
    keys = ("user_api", "internal_api", "version", "architecture", "num_threads", "filepath")
    found = [{key: library.get(key) for key in keys} for library in libraries]
    variables = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    facts = {"libraries": found, "variables": variables}
    names = dict.fromkeys(
        f"{item['internal_api']} {item['version'] or ''}".strip() + f" ({item['num_threads']} threads)"
        for item in found
    )
    settings = (
        ", ".join(f"{name}={value}" for name, value in variables.items()) or "OMP_NUM_THREADS is not set"
    )
    text = f"{', '.join(names) or 'no library was recognised'}; {settings}"
    openmp = {item["internal_api"] for item in found if item["user_api"] == "openmp"}
    prefixes = {Path(str(item["filepath"])).name.partition(".")[0] for item in found}
    # https://github.com/joblib/threadpoolctl/blob/master/multiple_openmp.md
    if (
        len(openmp) > 1
        and any("libiomp" in name for name in prefixes)
        and any("libomp" in name for name in prefixes)
    ):
        text += "; Intel's and LLVM's OpenMP in one process can stop it forever"
        yield Diagnosis("machine", "BLAS", Status.caution, text, "export MKL_THREADING_LAYER=GNU", facts)
        return
    yield Diagnosis("machine", "BLAS", Status.ok, text, None, facts)


def check_speed(selection: Selection) -> Iterator[Diagnosis]:
    """Time the Gram matrix of a region and its Cholesky factor, with one thread and in double precision."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    X = np.random.default_rng(0).standard_normal((N_VOLUMES, N_VOXELS))
    # Products of n(n+1)/2 scalar products of length p, and n^3/3 operations of the factor.
    operations = N_VOLUMES * (N_VOLUMES + 1) * N_VOXELS + N_VOLUMES**3 / 3
    times: list[float] = []
    with threadpool_limits(limits=1):
        start = time.perf_counter()
        while not times or time.perf_counter() - start < MEASURED_SECONDS:
            before = time.perf_counter()
            np.linalg.cholesky(X @ X.T + np.eye(N_VOLUMES))
            times.append(time.perf_counter() - before)
    best = min(times)
    speed = operations / best / 1e9
    text = (
        f"{speed:.1f} GFLOP/s with one thread: Gram matrix of {N_VOLUMES} x {N_VOXELS} and its Cholesky "
        f"factor in {best * 1000:.2f} ms (best of {len(times)})"
    )
    facts = {"gflops": speed, "best_seconds": best, "repeats": len(times)}
    yield Diagnosis("machine", "speed", Status.ok, text, None, facts)


def check_memory(selection: Selection) -> Iterator[Diagnosis]:
    """Read how much memory is available on the machine, and the limits of a container and of ``ulimit``.

    A limit includes what is used already, so that it is compared by itself.
    """
    import psutil

    memory = psutil.virtual_memory()
    limits = dict(_find_limits())
    facts = {"total_bytes": memory.total, "available_bytes": memory.available, "limits": limits}
    text = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB available"
    text += "".join(
        f"; {name} allows {value / 1e9:.1f} GB, of which a part may be used" for name, value in limits.items()
    )
    if limits and min(limits.values()) < LITTLE_MEMORY:
        text += "; a run may need more than that"
        yield Diagnosis("machine", "memory", Status.caution, text, None, facts)
    elif memory.available < LITTLE_MEMORY:
        text += "; end other programs before a run"
        yield Diagnosis(
            "machine", "memory", Status.caution, text, "ps -eo rss,pid,args --sort=-rss | head", facts
        )
    else:
        yield Diagnosis("machine", "memory", Status.ok, text, None, facts)


def _find_limits() -> Iterator[tuple[str, int]]:
    with suppress(ImportError):
        import resource

        for name, kind in (("ulimit -v", resource.RLIMIT_AS), ("ulimit -d", resource.RLIMIT_DATA)):
            soft, _ = resource.getrlimit(kind)
            if soft != resource.RLIM_INFINITY:
                yield name, soft
    with suppress(OSError, ValueError):
        yield "the container", int(CGROUP_LIMIT.read_text())
