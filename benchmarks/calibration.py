"""False-positive rates and power of the permutation test, next to the tests that people use today.

    python benchmarks/calibration.py                           # everything; many hours
    python benchmarks/calibration.py --parts order,customary   # schemes, order, customary, power
    python benchmarks/calibration.py --parts schemes --estimators ridge --data-sets 200

Noise per voxel is AR(1) over all 121 volumes of a scanner run, smoothed over neighbouring voxels, with a slow
drift (three cosines per scanner run and voxel, random amplitudes) and an offset per scanner run. Volumes are
those of face and cat in the labels of Haxby's subject 1 (HARNESS_TEST_DATA, or ../shared/data next to the
checkout), where face comes first in 9 of 12 scanner runs. A rate is the share of data sets without any
information whose p is at most .05; the limit is the one-sided 99.9 % limit of the binomial distribution for a
rate of .05. The results are kept in docs/calibration.md.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402  the variables above are read on import
from joblib import Parallel, delayed  # noqa: E402
from scipy.signal import lfilter  # noqa: E402
from scipy.stats import binom, binomtest, ttest_1samp  # noqa: E402
from sklearn.model_selection import KFold, LeaveOneGroupOut, StratifiedKFold  # noqa: E402

from harness.datasets.haxby import read_labels  # noqa: E402
from harness.decoding.estimator import Estimator  # noqa: E402
from harness.decoding.evaluation import Scoring, evaluate  # noqa: E402
from harness.decoding.question import Question  # noqa: E402
from harness.decoding.splitters import Scheme  # noqa: E402
from harness.errors import DesignError  # noqa: E402
from harness.inference.permutation import run_permutation_test  # noqa: E402
from harness.inference.settings import PermutationSettings  # noqa: E402
from harness.samples.blocks import average_blocks, find_blocks  # noqa: E402
from harness.samples.contrasts import make_contrast, select_volumes  # noqa: E402
from harness.samples.samples import FoldPreprocessing, Samples  # noqa: E402
from harness.samples.signal import zscore  # noqa: E402
from harness.solvers.estimators import (  # noqa: E402
    ExactLDA,
    ExactLinearSVC,
    ExactLogisticRegressionCV,
    ExactRidgeClassifierCV,
)

ALPHA = 0.05
N_VOXELS = 40
ESTIMATORS = {
    "ridge": Estimator("ridge", ExactRidgeClassifierCV([1.0, 100.0])),
    "lda": Estimator("lda", ExactLDA()),
    "svc": Estimator("svc", ExactLinearSVC(), {"C": [0.01, 1.0]}),
    "logistic": Estimator("logistic", ExactLogisticRegressionCV([0.01, 1.0], cv=3)),
}
SCHEMES = {
    "logo": Scheme("logo", LeaveOneGroupOut()),
    "kfold5": Scheme("kfold5", KFold(5)),
    "stratified5": Scheme("stratified5", StratifiedKFold(5)),
}
STANDARDISATIONS = ("own", "run", "train")
CONTRAST = make_contrast(["face", "cat"])


@dataclass(frozen=True)
class Design:
    """The conditions and scanner runs of all volumes of a recording."""

    conditions: np.ndarray
    runs: np.ndarray

    def order(self, k: int) -> "Design":
        """Return the design with face shown before cat in `k` of the scanner runs."""
        conditions = self.conditions.copy()
        for place, run in enumerate(np.unique(self.runs)):
            rows = np.flatnonzero(self.runs == run)
            face, cat = (rows[conditions[rows] == name] for name in ("face", "cat"))
            if (face[0] < cat[0]) != (place < k):
                conditions[face], conditions[cat] = "cat", "face"
        return Design(conditions, self.runs)


def read_design() -> Design:
    folder = Path(os.environ.get("HARNESS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    labels = read_labels(folder / "labels" / "subj1" / "labels.txt")
    return Design(labels["condition"].to_numpy(str), labels["run"].to_numpy())


def make_noise(rng: np.random.Generator, runs: np.ndarray, rho: float) -> np.ndarray:
    """Return noise of shape (n_volumes, N_VOXELS) without a direction that scanner runs share."""
    data = np.empty((len(runs), N_VOXELS))
    for run in np.unique(runs):
        rows = np.flatnonzero(runs == run)
        white = rng.standard_normal((len(rows) + 50, N_VOXELS + 2))
        noise = lfilter([np.sqrt(1 - rho**2)], [1, -rho], white, axis=0)[50:]
        noise = noise[:, 1:-1] + 0.35 * (noise[:, :-2] + noise[:, 2:])
        time = np.arange(len(rows)) / len(rows)
        drift = sum(rng.standard_normal(N_VOXELS) * np.cos(np.pi * j * time)[:, None] for j in (1, 2, 3))
        data[rows] = noise + 0.5 * drift + rng.standard_normal(N_VOXELS)
    return data


def select(data: np.ndarray, design: Design, standardisation: str, averaged: bool = False) -> Samples:
    """Return the samples of face and cat, standardised as the option of `signal.zscore` does."""
    volumes, y = select_volumes(CONTRAST, design.conditions, "the design")
    blocks = find_blocks(design.conditions, design.runs)
    if standardisation == "run":
        data = np.concatenate([zscore(data[design.runs == run]) for run in np.unique(design.runs)])
    X = data[volumes].astype(np.float32)
    if averaged:
        X, first = average_blocks(X, blocks[volumes])
        volumes, y = volumes[first], y[first]
    zscored = None if standardisation == "run" else standardisation
    return Samples(
        X=X,
        y=y,
        runs=design.runs[volumes],
        conditions=y,
        volumes=volumes,
        blocks=blocks[volumes],
        contrast=CONTRAST,
        preparation=FoldPreprocessing(zscored),
    )


def test_scores(
    samples: Samples, estimator: str, scheme: str, settings: PermutationSettings
) -> dict[str, float]:
    """Return the p-values of the run's permutation test."""
    scoring = Scoring(report=("accuracy", "roc_auc"), inner="runs" if scheme == "logo" else "stratified")
    if scheme != "logo":
        scoring = replace(scoring, inner_folds=3)
    question = Question(CONTRAST, ESTIMATORS[estimator], SCHEMES[scheme], scoring=scoring)
    return run_permutation_test(samples, question, settings).p_values


@dataclass(frozen=True)
class Rates:
    """How often tests rejected, by the name of each test."""

    counts: dict[str, int]
    n: int

    def describe(self) -> str:
        """Return the rates, with the limit that they must not exceed."""
        limit = binom.ppf(0.999, self.n, ALPHA) / self.n
        shown = []
        for name, count in self.counts.items():
            rate = count / self.n
            above = " ABOVE THE LIMIT" if rate > limit and name != "refused" else ""
            shown.append(f"{name} {rate:.3f}{above}")
        return f"{'; '.join(shown)}  (n={self.n}, limit {limit:.3f})"


def count_rejections(simulate: Callable[[int], dict[str, float]], n: int, processes: int) -> Rates:
    """Return how often the p-values that `simulate(seed)` returns are at most `ALPHA`."""
    found = Parallel(processes)(delayed(simulate)(seed) for seed in range(n))
    names = list(dict.fromkeys(name for each in found for name in each))
    return Rates({name: sum(each.get(name, 1.0) <= ALPHA + 1e-12 for each in found) for name in names}, n)


@dataclass(frozen=True)
class Cell:
    """One combination of noise and analysis.

    Attributes
    ----------
    effect : float
        Size of a pattern that differs between the classes; 0 for none.
    order_effect : float
        Size of a pattern that decays within every scanner run, alike in all of them.
    k : int or None
        Scanner runs that show face first; None keeps Haxby's 9 of 12.
    """

    rho: float
    standardisation: str = "own"
    scheme: str = "logo"
    estimator: str = "ridge"
    averaged: bool = False
    effect: float = 0.0
    order_effect: float = 0.0
    k: int | None = None
    relabel: str = "blocks"
    n_relabellings: int = 19  # p = .05 is reached where none scores as high

    def samples(self, seed: int) -> Samples:
        """Return one simulated data set."""
        # Other noise for every rho, so that a rate over several of them has independent data sets.
        rng = np.random.default_rng([seed, round(1000 * self.rho), 7])
        design = read_design()
        if self.k is not None:
            design = design.order(self.k)
        data = make_noise(rng, design.runs, self.rho)
        pattern, decay = rng.standard_normal((2, N_VOXELS))
        data += self.effect * np.outer(
            (design.conditions == "face") * 1.0 - (design.conditions == "cat"), pattern
        )
        _, start = np.unique(design.runs, return_index=True)
        position = np.arange(len(data)) - start[np.searchsorted(np.unique(design.runs), design.runs)]
        data += self.order_effect * np.outer(np.exp(-position / 40), decay)
        return select(data, design, self.standardisation, self.averaged)

    def test(self, seed: int) -> dict[str, float]:
        """Return the p-values; a refusal is no rejection, and is counted by itself."""
        settings = PermutationSettings(
            relabel=self.relabel, n=self.n_relabellings, limit=1, seed=seed, force=True
        )
        try:
            return test_scores(self.samples(seed), self.estimator, self.scheme, settings)
        except DesignError:
            return {"refused": 0.0}

    def test_customary(self, seed: int) -> dict[str, float]:
        """Return the p-values of what people use today for one subject, and of the permutation of blocks."""
        samples = self.samples(seed)
        scoring = Scoring(report=("accuracy",), inner="runs")
        ridge, scheme = ESTIMATORS[self.estimator], SCHEMES[self.scheme]

        def accuracies(y: np.ndarray) -> np.ndarray:
            return evaluate(replace(samples, y=y), ridge, scheme, scoring).folds["test_accuracy"].to_numpy()

        observed = accuracies(samples.y)
        rng = np.random.default_rng([seed, 8])

        def shuffle_volumes() -> np.ndarray:
            y = samples.y.copy()
            for run in np.unique(samples.runs):
                rows = np.flatnonzero(samples.runs == run)
                y[rows] = y[rng.permutation(rows)]
            return y

        null = [accuracies(shuffle_volumes()).mean() for _ in range(self.n_relabellings)]
        n_right = round(float(observed.mean()) * len(samples.y))
        return {
            "binomial test over volumes": binomtest(n_right, len(samples.y), alternative="greater").pvalue,
            "volumes permuted within scanner runs": (
                1 + sum(score >= observed.mean() - 1e-10 for score in null)
            )
            / (len(null) + 1),
            "t test over folds": ttest_1samp(observed, 0.5, alternative="greater").pvalue
            if observed.std()
            else 1.0,
        }


def print_schemes(options: argparse.Namespace) -> None:
    print("\nNoise without information; rates of p <= .05 of every score, over all rho and for each\n")
    for estimator, averaged, scheme, zscored in product(
        options.estimators, (False, True), SCHEMES, STANDARDISATIONS
    ):
        if averaged and scheme != "logo":
            continue
        every = [
            count_rejections(
                Cell(rho, zscored, scheme, estimator, averaged).test, options.data_sets, options.processes
            )
            for rho in options.rhos
        ]
        names = list(dict.fromkeys(name for rates in every for name in rates.counts))
        total = Rates(
            {name: sum(rates.counts.get(name, 0) for rates in every) for name in names},
            sum(rates.n for rates in every),
        )
        what = f"{estimator}, {'block averages, ' if averaged else ''}{scheme}, {zscored}"
        print(f"{what:40} {total.describe()}")
        for rho, rates in zip(options.rhos, every, strict=True):
            print(f"{'':12} rho {rho}: {rates.describe()}", flush=True)


def print_order(options: argparse.Namespace) -> None:
    print("\nAn effect of the order that all scanner runs share; face first in k of 12\n")
    for k, relabel in product((6, 9, 11, 12), ("blocks", "order_preserving")):
        cell = Cell(0.5, "train", order_effect=3.0, k=k, relabel=relabel)
        rates = count_rejections(cell.test, options.data_sets, options.processes)
        print(f"k = {k:2}, relabel={relabel:17} {rates.describe()}", flush=True)
    for k, relabel in product((9, 10), ("blocks", "order_preserving")):
        cell = Cell(0.5, "train", effect=0.3, k=k, relabel=relabel)
        rates = count_rejections(cell.test, options.data_sets, options.processes)
        print(f"planted pattern, k = {k:2}, relabel={relabel:17} {rates.describe()}", flush=True)


def print_customary(options: argparse.Namespace) -> None:
    print("\nWhat people use today, on the same noise (logo, own, ridge)\n")
    for rho in options.rhos:
        rates = count_rejections(Cell(rho).test_customary, options.data_sets, options.processes)
        print(f"rho {rho}: {rates.describe()}", flush=True)


def print_power(options: argparse.Namespace) -> None:
    print("\nPower: a planted pattern; shares of data sets in which it is found\n")
    for estimator, rho, effect in product(options.estimators, (0.5, 0.9), (0.1, 0.2)):
        for scheme in SCHEMES:
            cell = Cell(rho, scheme=scheme, estimator=estimator, effect=effect)
            rates = count_rejections(cell.test, options.data_sets, options.processes)
            shown = ", ".join(f"{name} {count / rates.n:.2f}" for name, count in rates.counts.items())
            print(f"{estimator}, rho {rho}, effect {effect}, {scheme:12} {shown}  (n={rates.n})", flush=True)


PARTS = {"schemes": print_schemes, "order": print_order, "customary": print_customary, "power": print_power}


def list_of(allowed: Iterator[str] | Sequence[str]) -> Callable[[str], list[str]]:
    names = list(allowed)

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in names]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; expected among {', '.join(names)}")
        return chosen

    return parse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", type=list_of(PARTS), default=list(PARTS))
    parser.add_argument("--estimators", type=list_of(ESTIMATORS), default=list(ESTIMATORS))
    parser.add_argument(
        "--rhos", type=lambda text: [float(rho) for rho in text.split(",")], default=[0, 0.3, 0.5, 0.7, 0.9]
    )
    parser.add_argument("--data-sets", type=int, default=100, help="per rate (default: 100)")
    parser.add_argument("--processes", type=int, default=-1)
    options = parser.parse_args()
    for part in options.parts:
        PARTS[part](options)


if __name__ == "__main__":
    main()
