"""Figures of the pages on training a decoder, and on what decoding is used for."""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.signal import lfilter
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import KFold, LeaveOneGroupOut, StratifiedKFold, cross_val_score

from course.figures.recording import select_faces_and_cats
from course.figures.style import BLUE, GREEN, GREY, ORANGE, RED, WIDTH


def draw_folds() -> Figure:
    """Draw which volumes three schemes hold out in their first fold."""
    _, y, runs = select_faces_and_cats()
    schemes = {
        "leave one\nrun out": LeaveOneGroupOut().split(y, y, runs),
        "5-fold": KFold(5).split(y),
        "5-fold,\nshuffled": KFold(5, shuffle=True, random_state=0).split(y),
    }
    figure, axes = plt.subplots(figsize=(WIDTH, 3.2), layout="constrained")
    rows = [
        ("class", np.where(y == "face", BLUE, ORANGE)),
        ("scanner\nrun", np.where(runs % 2, "#777777", GREY)),
    ]
    for name, splits in schemes.items():
        _, test = next(iter(splits))
        rows.append((name, np.where(np.isin(np.arange(len(y)), test), RED, "#E8E8E8")))
    for row, (_, colours) in enumerate(rows):
        axes.bar(np.arange(72), 0.8, bottom=row - 0.4, width=1.0, align="edge", color=colours[:72])
    axes.set(yticks=range(len(rows)), yticklabels=[name for name, _ in rows], xlim=(0, 72), ylim=(4.6, -0.6))
    axes.set_xlabel("volumes of 4 scanner runs (blue: face, orange: cat; red: held out)", fontsize=9)
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    return figure


def draw_leakage() -> Figure:
    """Draw the accuracy of decoding noise, for four schemes."""
    scores = decode_noise()
    figure, axes = plt.subplots(figsize=(WIDTH, 2.7), layout="constrained")
    means = [values.mean() for values in scores.values()]
    errors = [values.std(ddof=1) / np.sqrt(len(values)) for values in scores.values()]
    colours = [GREEN, ORANGE, ORANGE, RED]
    axes.barh(list(scores), means, xerr=errors, color=colours, height=0.65)
    for row, mean in enumerate(means):
        axes.text(0.03, row, f"{mean:.2f}", va="center", color="black")
    axes.axvline(0.5, color="black", linestyle="--")
    axes.invert_yaxis()
    axes.set(xlabel="accuracy on noise (true value: 0.5)", xlim=(0, 1))
    return figure


def decode_noise(n_repetitions: int = 10) -> dict[str, np.ndarray]:
    """Return accuracies of decoding autocorrelated noise, by scheme: arrays of shape (n_repetitions,).

    Labels are those of face and cat in the simulated subject; 300 voxels of noise, AR(1) with a coefficient
    of .7.
    """
    chosen, y, runs = select_faces_and_cats()
    rng = np.random.default_rng(2001)
    schemes = {
        "leave one run out": LeaveOneGroupOut(),
        "5-fold": KFold(5),
        "stratified 5-fold": StratifiedKFold(5),
        "shuffled 5-fold": KFold(5, shuffle=True, random_state=0),
    }
    scores: dict[str, list[float]] = {name: [] for name in schemes}
    for _ in range(n_repetitions):
        X = lfilter([1], [1, -0.7], rng.standard_normal((len(chosen), 300)), axis=0)[chosen]
        for name, scheme in schemes.items():
            groups = runs if isinstance(scheme, LeaveOneGroupOut) else None
            accuracies = cross_val_score(RidgeClassifier(), X, y, groups=groups, cv=scheme)
            scores[name].append(float(accuracies.mean()))
    return {name: np.array(values) for name, values in scores.items()}


def draw_weights_patterns() -> Figure:
    """Draw weights and patterns of two voxels that share noise, of which one responds."""
    rng = np.random.default_rng(7)
    y = np.repeat([-1.0, 1.0], 150)
    shared = 1.5 * rng.standard_normal(300)
    X = np.column_stack([y + shared, shared]) + 0.2 * rng.standard_normal((300, 2))
    weights = RidgeClassifier(alpha=1e-3).fit(X, y).coef_.ravel()
    pattern = np.cov(X.T) @ weights
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(WIDTH, 3.0), width_ratios=(1.25, 1), layout="constrained"
    )
    for label, colour, marker in ((-1, ORANGE, "o"), (1, BLUE, "^")):
        left.scatter(*X[y == label].T, s=10, color=colour, marker=marker, label=f"class {label:+d}")
    left.set(xlabel="voxel 1 (signal + noise)", ylabel="voxel 2 (the same noise)", aspect="equal")
    left.legend(frameon=False, fontsize=8, handletextpad=0, loc="upper left", borderpad=0)
    places = np.arange(2)
    right.bar(places - 0.2, weights / np.abs(weights).max(), 0.4, color=GREY, label="weight")
    right.bar(places + 0.2, pattern / np.abs(pattern).max(), 0.4, color=GREEN, label="pattern")
    right.axhline(0, color="black", linewidth=0.8)
    right.set_xticks(places, ["voxel 1", "voxel 2"])
    right.set(ylim=(-1.15, 1.7), ylabel="value (largest = 1)")
    right.legend(frameon=False, fontsize=9, loc="upper right")
    return figure


def draw_encoding_decoding() -> Figure:
    """Draw the directions of encoding and decoding models between stimulus and voxels."""
    figure, axes = plt.subplots(figsize=(WIDTH, 2.2), layout="constrained")
    for x, text in ((0.12, "stimulus,\ntask"), (0.5, "brain"), (0.88, "voxels\n(measured)")):
        axes.text(
            x,
            0.5,
            text,
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.6", "fc": "#EEEEEE", "ec": "black"},
        )
    for start, end in ((0.22, 0.42), (0.58, 0.76)):
        axes.annotate("", (end, 0.5), (start, 0.5), arrowprops={"arrowstyle": "-|>", "color": "black"})
    for height, start, end, text, colour in (
        (0.86, 0.12, 0.88, "encoding (forward) model", BLUE),
        (0.14, 0.88, 0.12, "decoding (backward) model", RED),
    ):
        axes.annotate(
            "", (end, height), (start, height), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2}
        )
        axes.text(0.5, height, text, ha="center", va="center", color=colour, backgroundcolor="white")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")
    return figure
