"""The number of BLAS threads, which is set here only.

The linear systems of a decoder are small (200 x 200), and a second BLAS thread makes them slower, not faster.
Parallel workers would compete for the cores in addition. Every public solver therefore works inside
`one_blas_thread`; to use more cores, start more workers. One thread also fixes the order of
summation, so that results are the same to the last bit whatever OMP_NUM_THREADS says.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import scipy.linalg  # noqa: F401  loads SciPy's BLAS, so that the controller below finds it as well as NumPy's
from threadpoolctl import ThreadpoolController


@cache
def _blas() -> ThreadpoolController:
    # Finding the loaded libraries takes milliseconds, setting their limit microseconds: look once.
    return ThreadpoolController().select(user_api="blas")


class _Owner:
    """The Python thread that has set the limit, and how often it is inside."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: int | None = None
        self.depth = 0


_owner = _Owner()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run the enclosed block with one BLAS thread, and put the former number back afterwards.

    Blocks may be nested. The number belongs to the process: of several Python threads the first one inside
    sets it, and puts it back when it leaves, even if others are still inside; they continue with the former
    number, and their sums may differ in the last digits. Run workers as processes to have the same bits.
    """
    this_thread = threading.get_ident()
    with _owner.lock:
        if _owner.thread is None:
            _owner.thread = this_thread
        owns = _owner.thread == this_thread
        _owner.depth += owns
        first = owns and _owner.depth == 1
    try:
        if first:
            with _blas().limit(limits=1):
                yield
        else:
            yield
    finally:
        with _owner.lock:
            _owner.depth -= owns
            if owns and _owner.depth == 0:
                _owner.thread = None
