"""The solvers leave the number of BLAS threads as they found it, also when blocks overlap."""

import threading

import numpy as np
import pytest
from optima import SOLVERS, simulated
from threadpoolctl import threadpool_info, threadpool_limits

from harness.solvers.threads import one_blas_thread


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_one_thread_inside_and_the_former_number_afterwards():
    with threadpool_limits(2, user_api="blas"):
        with one_blas_thread():
            with one_blas_thread():
                assert set(blas_threads()) == {1}
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {2}
        with pytest.raises(RuntimeError), one_blas_thread():
            raise RuntimeError
        assert set(blas_threads()) == {2}


def test_overlapping_blocks_of_several_python_threads():
    entered, leave = threading.Event(), threading.Event()

    def stay_until_released():
        with one_blas_thread():
            entered.set()
            leave.wait(timeout=10)

    with threadpool_limits(2, user_api="blas"):
        worker = threading.Thread(target=stay_until_released)
        with one_blas_thread():
            worker.start()
            assert entered.wait(timeout=10)
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {2}
        leave.set()
        worker.join()
        assert set(blas_threads()) == {2}


@pytest.mark.parametrize("loss", SOLVERS)
def test_results_do_not_depend_on_the_number_of_threads_to_the_last_bit(loss):
    X, Y, train_sets = simulated(n=150, p=400, n_labels=2)
    results = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads, user_api="blas"):
            results.append(SOLVERS[loss](X, Y, train_sets, [1.0, 100.0]))
    np.testing.assert_array_equal(results[0].weights, results[1].weights)
    np.testing.assert_array_equal(results[0].coef(X), results[1].coef(X))
