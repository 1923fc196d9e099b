"""How much faster the exact solvers are than liblinear, and how far from the limit of the hardware.

    OMP_NUM_THREADS=1 python benchmarks/solvers.py [--quick]

Everything runs in one process on one BLAS thread, each pair of figures side by side. Times are CPU seconds,
the best of several repetitions (liblinear: one): they survive a busy machine better than the clock does. The
real volumes are read from $HARNESS_TEST_DATA (default: ../shared/data next to the repository); without them
that part is left out.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from scipy.linalg.lapack import dpotrf, spotrf
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.svm import LinearSVC

import harness.solvers.squared_hinge
from harness.solvers.logistic import solve_logistic_cv
from harness.solvers.ridge import solve_ridge_cv_gram
from harness.solvers.spaces import compute_gram
from harness.solvers.squared_hinge import solve_squared_hinge, solve_squared_hinge_gram
from harness.solvers.threads import one_blas_thread

SVM_CS = [1.0, 10.0, 100.0]
LOGISTIC_CS = np.geomspace(1e-3, 1e4, 8)


def cpu_seconds(task: Callable[[], object], repetitions: int) -> tuple[float, object]:
    """Return the shortest CPU time of some repetitions, and what the last one returned."""
    times = []
    for _ in range(repetitions):
        start = time.process_time()
        result = task()
        times.append(time.process_time() - start)
    return min(times), result


def load_real() -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return X, y and runs of subject 1's VT voxels, face against cat; None where the data are absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HARNESS_TEST_DATA", default)) / "haxby2001-vt" / "haxby2001" / "subj1"
    if not folder.exists():
        return None
    table = np.loadtxt(folder / "labels.txt", dtype=str, skiprows=1)
    chosen = np.isin(table[:, 0], ("face", "cat"))
    inside = np.asarray(nibabel.load(folder / "mask4_vt.nii.gz").dataobj) > 0
    X = np.asarray(nibabel.load(folder / "bold.nii.gz").dataobj)[inside].T[chosen].astype(float)
    X = (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)
    return X, np.where(table[chosen, 0] == "face", 1.0, -1.0), table[chosen, 1].astype(int)


def simulate(n_samples: int, n_voxels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return X, y and runs: 12 runs of two blocks, a weak signal in one voxel of ten, correlated noise."""
    rng = np.random.default_rng(0)
    runs = np.arange(n_samples) * 12 // n_samples
    y = np.where(np.arange(n_samples) * 24 // n_samples % 2 == 0, 1.0, -1.0)
    X = rng.standard_normal((n_samples, n_voxels))
    X += rng.standard_normal((n_samples, 20)) @ rng.standard_normal((20, n_voxels)) / 2
    X[:, ::10] += 0.15 * y[:, None] * rng.choice([-1, 1], len(X[0, ::10]))
    return (X - X.mean(axis=0)) / X.std(axis=0, ddof=1), y, runs


def measure_rates() -> dict[str, float]:
    """Print and return the rates, in floating-point operations per second, that one thread reaches."""
    rng = np.random.default_rng(0)
    rates = {}
    for n in (198, 1000):
        A = rng.standard_normal((n, n))
        A = A @ A.T + n * np.eye(n)
        single = A.astype(np.float32)
        v = rng.standard_normal(n)
        tasks = {
            f"dgemm {n}": (lambda A=A: A @ A, 2 * n**3),
            f"dpotrf {n}": (lambda A=A: dpotrf(A.T, lower=1, clean=0), n**3 / 3),
            f"spotrf {n}": (lambda A=single: spotrf(A.T, lower=1, clean=0), n**3 / 3),
            f"dgemv {n}": (lambda A=A, v=v: A @ v, 2 * n**2),
        }
        for name, (task, operations) in tasks.items():
            loops = max(1, int(2e8 / operations))
            seconds, _ = cpu_seconds(lambda task=task, loops=loops: [task() for _ in range(loops)], 5)
            rates[name] = loops * operations / seconds
    print(
        "rates of one thread: "
        + ", ".join(f"{name} {rate / 1e9:.1f}" for name, rate in rates.items())
        + " GFLOP/s"
    )
    return rates


class OperationCount:
    """Counts the operations of the squared hinge's factorisations while it is active."""

    def __enter__(self) -> "OperationCount":
        self.cholesky = self.inverse = 0.0
        module = harness.solvers.squared_hinge
        self.saved = module.factorise_cholesky, module.invert_cholesky

        def factorise(A: np.ndarray) -> np.ndarray:
            self.cholesky += len(A) ** 3 / 3
            return self.saved[0](A)

        def invert(L: np.ndarray) -> np.ndarray:
            self.inverse += 2 * len(L) ** 3 / 3
            return self.saved[1](L)

        module.factorise_cholesky, module.invert_cholesky = factorise, invert
        return self

    def __exit__(self, *_: object) -> None:
        module = harness.solvers.squared_hinge
        module.factorise_cholesky, module.invert_cholesky = self.saved


def account(solve: Callable[[], list], n_train: int, seconds: float, rates: dict[str, float]) -> None:
    """Print the operations of a squared-hinge stage in dual space, and its distance to the BLAS rates."""
    with OperationCount() as count:
        parts = solve()
    steps = sum(int(part.n_iter.sum()) for part in parts)
    decoders = sum(part.n_iter.size for part in parts)
    # Every step and the check at the end: K r, K d, and one product with the inverse.
    products = (steps + decoders) * 3 * 2 * n_train**2
    factorising = count.cholesky + count.inverse
    total = factorising + products
    at_kernel_rates = factorising / rates["dpotrf 198"] + products / rates["dgemv 198"]
    print(
        f"    {decoders} decoders, {steps / decoders:.1f} Newton steps each: "
        f"{factorising / 1e9:.2f} GFLOP factorising + {products / 1e9:.2f} GFLOP products;\n"
        f"    {total / decoders / 1e6:.2f} MFLOP a decoder "
        f"(one full dposv: {(n_train**3 / 3 + 2 * n_train**2) / 1e6:.2f}); "
        f"{total / seconds / 1e9:.1f} GFLOP/s = {total / seconds / rates['dgemm 198']:.0%} of dgemm;\n"
        f"    limit at the rates of dpotrf and dgemv of this size: {at_kernel_rates:.3f} s, "
        f"at the rate of dgemm: {total / rates['dgemm 198']:.3f} s; "
        f"distance {seconds / at_kernel_rates:.1f} x and {seconds * rates['dgemm 198'] / total:.1f} x"
    )


def compare_svm(X: np.ndarray, y: np.ndarray, train_sets: list[np.ndarray], rates: dict[str, float]) -> None:
    """Print the squared hinge against `LinearSVC` as nilearn calls it."""

    def liblinear() -> np.ndarray:
        return np.array(
            [
                [
                    LinearSVC(C=C, max_iter=10000, random_state=0).fit(X[train], y[train]).coef_[0]
                    for C in SVM_CS
                ]
                for train in train_sets
            ]
        )

    seconds, solutions = cpu_seconds(lambda: solve_squared_hinge(X, y, train_sets, SVM_CS), 5)
    theirs, coef = cpu_seconds(liblinear, 1)
    exact = solutions.coef(X)[:, :, 0]
    off = np.linalg.norm(coef - exact, axis=2) / np.linalg.norm(exact, axis=2)
    print(
        f"  svc, {len(train_sets)} folds x 3 C: exact {seconds:.3f} s, "
        f"liblinear {theirs:.2f} s: {theirs / seconds:.0f} x. "
        f"Left to the optimum: exact {solutions.steps.max():.0e}, liblinear {off.max():.0e} (relative)"
    )
    if solutions.space == "dual":
        n_train = int(np.mean([train.sum() for train in train_sets]))
        account(lambda: [solve_squared_hinge(X, y, train_sets, SVM_CS)], n_train, seconds, rates)


def compare_logistic(X: np.ndarray, y: np.ndarray, train_sets: list[np.ndarray]) -> None:
    """Print the logistic decoder that chooses C against `LogisticRegressionCV` as nilearn calls it."""

    def liblinear() -> list[float]:
        model = LogisticRegressionCV(
            Cs=LOGISTIC_CS,
            cv=5,
            scoring="neg_log_loss",
            solver="liblinear",
            l1_ratios=(0,),
            use_legacy_attributes=False,
        )
        return [model.fit(X[train], y[train]).C_ for train in train_sets]

    seconds, chosen = cpu_seconds(lambda: solve_logistic_cv(X, y, train_sets, LOGISTIC_CS), 5)
    theirs, Cs = cpu_seconds(liblinear, 1)
    print(
        f"  logistic, {len(train_sets)} folds x (5 inner folds x 8 C + 1): exact {seconds:.3f} s, "
        f"liblinear {theirs:.2f} s: {theirs / seconds:.0f} x. "
        f"Same C in {np.sum(chosen.Cs[:, 0] == Cs)} of {len(Cs)} folds"
    )


def permute(X: np.ndarray, y: np.ndarray, runs: np.ndarray, n_labels: int, rates: dict[str, float]) -> None:
    """Print what many label vectors cost: blocks swapped within runs, and volumes shuffled."""
    K = compute_gram(X)
    train_sets = [runs != run for run in np.unique(runs)]
    rng = np.random.default_rng(0)
    swapped = y[:, None] * rng.choice([-1.0, 1.0], (runs.max() + 1, n_labels))[runs]
    shuffled = np.column_stack([rng.permutation(y) for _ in range(n_labels)])
    for name, Y in (("blocks swapped within runs", swapped), ("volumes shuffled", shuffled)):

        def solve(Y: np.ndarray = Y) -> list:
            return [solve_squared_hinge_gram(K, Y, train_sets, SVM_CS)]

        seconds, parts = cpu_seconds(solve, 1)
        print(
            f"  svc, {n_labels} label vectors ({name}) x 12 folds x 3 C: {seconds:.1f} s, "
            f"{seconds / n_labels * 1e3:.1f} ms a vector; "
            f"all converged: {all(part.converged.all() for part in parts)}"
        )
        account(solve, 198, seconds, rates)
    seconds, _ = cpu_seconds(lambda: solve_ridge_cv_gram(K, swapped, train_sets, LOGISTIC_CS), 1)
    print(
        f"  ridge, {n_labels} label vectors x 12 folds, alpha chosen of 8 by leave-one-out: {seconds:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="100 label vectors, no 20 000 voxels")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore", ConvergenceWarning)
    with one_blas_thread():
        rates = measure_rates()
        real = load_real()
        if real is None:
            print("the real volumes are absent: set HARNESS_TEST_DATA")
        data = {"real, 216 x 577": real, "simulated, 1000 x 300": simulate(1000, 300)}
        if not quick:
            data["simulated, 216 x 20000"] = simulate(216, 20000)
        for name, problem in data.items():
            if problem is None:
                continue
            X, y, runs = problem
            train_sets = [runs != run for run in np.unique(runs)]
            n_compared = 2 if X.shape[1] == 20000 else len(train_sets)
            print(name)
            compare_svm(X, y, train_sets[:n_compared], rates)
            compare_logistic(X, y, train_sets[: n_compared if X.shape[1] <= 577 else 1])
            if problem is real:
                permute(X, y, runs, 100 if quick else 1000, rates)


if __name__ == "__main__":
    main()
