"""The one place where the number of BLAS threads is set.

The linear systems of a decoder are small (200 x 200), and a second BLAS thread makes them slower, not faster.
Workers that run beside each other would fight for the cores on top of it. Every public solver therefore works
inside `one_blas_thread`; whoever wants more cores starts more workers. One thread also fixes the order of
summation, so that results are the same to the last bit whatever OMP_NUM_THREADS says.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import scipy.linalg  # noqa: F401  loads SciPy's BLAS, so that the controller below sees it beside NumPy's
from threadpoolctl import ThreadpoolController


@cache
def _blas() -> ThreadpoolController:
    # Finding the loaded libraries takes milliseconds, setting their limit microseconds: look once.
    return ThreadpoolController().select(user_api="blas")


class _Limit:
    """How many callers are inside, and the limit that the first of them set."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.callers = 0
        self.limiter: Any = None


_limit = _Limit()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run the enclosed block with one BLAS thread, and put the former number back afterwards.

    The number of BLAS threads belongs to the process, not to the Python thread. Blocks may be nested and may
    overlap in several Python threads: the first one in sets the limit, the last one out lifts it.
    """
    with _limit.lock:
        if _limit.callers == 0:
            _limit.limiter = _blas().limit(limits=1)
        _limit.callers += 1
    try:
        yield
    finally:
        with _limit.lock:
            _limit.callers -= 1
            if _limit.callers == 0:
                _limit.limiter.restore_original_limits()
                _limit.limiter = None
