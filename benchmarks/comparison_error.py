"""Error rates of the tests that compare two estimators, and of the tests over subjects.

    python benchmarks/comparison_error.py                                # everything; about 5 minutes
    python benchmarks/comparison_error.py --parts pairs --data-sets 100  # pairs, groups, estimators, widths

Noise and design are those of benchmarks/calibration.py: 12 scanner runs with one block of 9 volumes of each
class, 40 voxels. Two decoders of equal truth are a ridge decoder (closed form, penalty = mean eigenvalue) of
voxels 1 to 30 and one of voxels 11 to 40, where the planted pattern is symmetric about the middle: mirroring
the voxels exchanges the two. A rate is the share of data sets (or of groups of subjects) with p of at most
.05, by the tests of `harness.inference.paired_tests` and `group_tests`; tests of two estimators are
two-sided. For the comparison of two decoders over subjects, groups are drawn from the data sets of a cell,
and overlap; the groups of the tests over subjects do not.
The results are kept in docs/calibration.md.
"""

import argparse
import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402  the variables above are read on import
from joblib import Parallel, delayed  # noqa: E402
from scipy.stats import norm, ttest_rel  # noqa: E402
from sklearn.model_selection import BaseCrossValidator, KFold, LeaveOneGroupOut  # noqa: E402

from calibration import ALPHA, ESTIMATORS, Cell, Design, make_noise, read_design  # noqa: E402
from harness.decoding.evaluation import Scoring, evaluate  # noqa: E402
from harness.decoding.splitters import Scheme  # noqa: E402
from harness.errors import DesignError  # noqa: E402
from harness.inference.group_tests import permutation_of_means, prevalence  # noqa: E402
from harness.inference.paired_tests import corrected_t, sign_flip  # noqa: E402
from harness.samples.contrasts import select_volumes  # noqa: E402

N_RELABELLINGS = 200  # the true labelling included
LEFT, RIGHT = slice(0, 30), slice(10, 40)
EFFECT = 0.25
SPLITTERS: dict[str, BaseCrossValidator] = {"logo": LeaveOneGroupOut(), "kfold5": KFold(5)}


@dataclass(frozen=True)
class Subject:
    """Accuracies of one simulated subject.

    Attributes
    ----------
    folds : ndarray of shape (2, n_folds)
        Of the two decoders of equal truth under ``logo``.
    nulls : dict of str to ndarray of shape (N_RELABELLINGS,)
        Mean accuracy of the left decoder by scheme, the true labelling first.
    """

    folds: np.ndarray
    nulls: dict[str, np.ndarray]


@cache
def read_volumes() -> tuple[Design, np.ndarray, np.ndarray]:
    design = read_design()
    volumes, y = select_volumes(Cell(0).samples(0).contrast, design.conditions, "the design")
    return design, volumes, np.where(y == "face", 1.0, -1.0)


def relabel(rng: np.random.Generator, y: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Return labellings of shape (n_volumes, N_RELABELLINGS): the blocks of every scanner run exchanged."""
    names, places = np.unique(runs, return_inverse=True)
    signs = rng.choice([-1.0, 1.0], (len(names), N_RELABELLINGS))
    signs[:, 0] = 1.0
    return y[:, None] * signs[places]


def score_folds(X: np.ndarray, Y: np.ndarray, runs: np.ndarray, splitter: BaseCrossValidator) -> np.ndarray:
    """Return the accuracies of ridge, of shape (n_folds, n_labellings); each part is standardised itself."""
    accuracies = []
    for train, held_out in splitter.split(
        X, Y[:, 0], runs if isinstance(splitter, LeaveOneGroupOut) else None
    ):
        A, B = ((part - part.mean(axis=0)) / part.std(axis=0) for part in (X[train], X[held_out]))
        moments = A.T @ A
        penalty = np.trace(moments) / len(moments)
        W = np.linalg.solve(
            moments + penalty * np.eye(len(moments)), A.T @ (Y[train] - Y[train].mean(axis=0))
        )
        accuracies.append(((B @ W + Y[train].mean(axis=0) > 0) == (Y[held_out] > 0)).mean(axis=0))
    return np.array(accuracies)


def simulate(rho: float, effect: float, seed: int) -> Subject:
    design, volumes, y = read_volumes()
    rng = np.random.default_rng([seed, round(1000 * rho), round(1000 * effect), 12])
    data = make_noise(rng, design.runs, rho)
    half = rng.standard_normal(data.shape[1] // 2)
    X, runs = data[volumes], design.runs[volumes]
    X = X + effect * np.outer(y, np.concatenate([half, half[::-1]]))
    Y = relabel(rng, y, runs)
    nulls = {name: score_folds(X[:, LEFT], Y, runs, splitter) for name, splitter in SPLITTERS.items()}
    right = score_folds(X[:, RIGHT], Y[:, :1], runs, SPLITTERS["logo"])
    return Subject(
        np.stack([nulls["logo"][:, 0], right[:, 0]]),
        {name: null.mean(axis=0) for name, null in nulls.items()},
    )


def simulate_all(options: argparse.Namespace, rho: float, effect: float, n: int) -> list[Subject]:
    return Parallel(options.processes)(delayed(simulate)(rho, effect, seed) for seed in range(n))


def test_folds(first: np.ndarray, second: np.ndarray, n_train: int, n_test: int) -> dict[str, float]:
    """Return the p-values of paired tests over the folds of one subject; a refusal has p = 1."""
    try:
        corrected = corrected_t(first, second, n_train, n_test).p
    except DesignError:
        corrected = 1.0
    differences = first - second
    return {
        "naive t": ttest_rel(first, second).pvalue if np.ptp(differences) > 1e-10 else 1.0,
        "corrected t": corrected,
        "sign flip of folds": sign_flip(differences).p,
    }


def count(p_values: Sequence[dict[str, float]]) -> str:
    """Return the rates of p <= .05 of every test."""
    counts: Counter[str] = Counter()
    for found in p_values:
        counts.update({name: int(p <= ALPHA + 1e-12) for name, p in found.items()})
    return ", ".join(f"{name} {number / len(p_values):.3f}" for name, number in counts.items())


def draw_groups(n_subjects: int, size: int, options: argparse.Namespace) -> list[np.ndarray]:
    rng = np.random.default_rng(size)
    return [rng.choice(n_subjects, size, replace=False) for _ in range(options.groups)]


def print_pairs(options: argparse.Namespace) -> None:
    print("\nTwo decoders of equal truth: rates over data sets (folds) and over groups (subjects)\n")
    for rho, effect in itertools.product(options.rhos, (0.0, EFFECT)):
        subjects = simulate_all(options, rho, effect, options.data_sets)
        folds = [test_folds(*subject.folds, 198, 18) for subject in subjects]
        differences = np.array([np.subtract(*subject.folds.mean(axis=1)) for subject in subjects])
        over_subjects = [
            count(
                [
                    {f"n={size}": sign_flip(differences[chosen]).p}
                    for chosen in draw_groups(len(subjects), size, options)
                ]
            )
            for size in (6, 12)
        ]
        accuracy = np.mean([subject.folds.mean() for subject in subjects])
        of_subjects = f"sign flip of subjects {', '.join(over_subjects)}"
        print(f"rho {rho}, accuracy {accuracy:.3f}: {count(folds)}; {of_subjects}", flush=True)


def print_groups(options: argparse.Namespace) -> None:
    print("\nTests over subjects, in groups without a common subject\n")
    totals: dict[str, list[dict[str, float]]] = {}
    for rho in options.rhos:
        null = simulate_all(options, rho, 0.0, options.subjects)
        strong = simulate_all(options, rho, 1.0, 100)
        rng = np.random.default_rng(3)
        for size in (6, 12):
            groups = np.arange(len(null) // size * size).reshape(-1, size)
            for scheme in SPLITTERS:
                tests = partial(_test_group, [subject.nulls[scheme] for subject in null])
                found = [tests(chosen) for chosen in groups]
                totals.setdefault(f"{scheme}, n={size}", []).extend(found)
                print(f"rho {rho}, {scheme}, n={size}: {count(found)} ({len(found)} groups)", flush=True)
            # An effect in half of the population is the limit of the majority null hypothesis.
            found = []
            for chosen in groups:
                has_effect = rng.random(size) < 0.5
                members = [
                    strong[rng.integers(len(strong))] if effect else null[k]
                    for k, effect in zip(chosen, has_effect, strict=True)
                ]
                p = prevalence([subject.nulls["logo"] for subject in members]).p_majority
                found.append({"majority null, effect in half of the population": p})
            totals.setdefault(f"logo, half, n={size}", []).extend(found)
            print(f"rho {rho}, logo, n={size}: {count(found)} ({len(found)} groups)", flush=True)
    for name, found in totals.items():
        print(f"all rho, {name}: {count(found)} ({len(found)} groups)", flush=True)


def _test_group(nulls: Sequence[np.ndarray], chosen: np.ndarray) -> dict[str, float]:
    group = [nulls[k] for k in chosen]
    scores = np.array([null[0] for null in group])
    found = prevalence(group)
    return {
        "permutation of means": permutation_of_means(group, n_draws=999).p,
        "prevalence, global null": found.p_global,
        "prevalence, majority null": found.p_majority,
        "sign flip of accuracy - .5": sign_flip(scores - 0.5).p_greater,
    }


def compare_estimators(rho: float, seed: int) -> dict[str, float]:
    """Return the p-values of all pairs of our estimators, without information: all have the same truth."""
    samples = Cell(rho).samples(seed)
    scheme, scoring = Scheme("logo", LeaveOneGroupOut()), Scoring(report=("accuracy",), inner="runs")
    scores = {
        name: evaluate(samples, ESTIMATORS[name], scheme, scoring).folds["test_accuracy"].to_numpy()
        for name in ("ridge", "lda", "svc")
    }
    found = {}
    for first, second in itertools.combinations(scores, 2):
        for test, p in test_folds(scores[first], scores[second], 198, 18).items():
            found[f"{first}-{second} {test}"] = p
    return found


def print_estimators(options: argparse.Namespace) -> None:
    print("\nPairs of estimators without information: rates over data sets\n")
    for rho in options.rhos:
        n = min(options.data_sets, options.estimator_sets)
        found = Parallel(options.processes)(delayed(compare_estimators)(rho, seed) for seed in range(n))
        print(f"rho {rho} (n={n}): {count(found)}", flush=True)


def print_widths(options: argparse.Namespace) -> None:
    print("\nMajority null, effect in half of the population; normal null distributions, 20000 groups\n")
    rng = np.random.default_rng(0)
    for size, width in itertools.product((6, 12), (0.5, 1.0, 2.0, 4.0)):
        has_effect = rng.random((20_000, size)) < 0.5
        # The limit of a strong effect: the minimum is that of the subjects without one.
        minima = np.where(has_effect, np.inf, rng.standard_normal(has_effect.shape)).min(axis=1)[:, None]
        reached = norm.sf(minima / np.where(has_effect, width, 1.0))
        p = (0.5 * reached.prod(axis=1) ** (1 / size) + 0.5) ** size
        print(f"n={size}, null distributions {width} times as wide with an effect: {(p <= ALPHA).mean():.3f}")


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "pairs": print_pairs,
    "groups": print_groups,
    "estimators": print_estimators,
    "widths": print_widths,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument(
        "--rhos", type=lambda text: [float(rho) for rho in text.split(",")], default=[0, 0.5, 0.9]
    )
    parser.add_argument("--data-sets", type=int, default=400, help="per cell (default: 400)")
    parser.add_argument("--estimator-sets", type=int, default=60, help="of pairs of estimators (default: 60)")
    parser.add_argument("--groups", type=int, default=1000, help="of subjects, overlapping (default: 1000)")
    parser.add_argument("--subjects", type=int, default=1200, help="in groups, per rho (default: 1200)")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"--parts {unknown[0]} is unknown; expected among {', '.join(PARTS)}")
    for part in options.parts:
        PARTS[part](options)


if __name__ == "__main__":
    main()
