"""The types and allowed values of a run's configuration. Plain dataclasses; Hydra checks against them."""

from dataclasses import dataclass, field
from typing import Any

from harness.decoding.choices import Engine, InnerFolds, Scorer
from harness.inference.choices import InferenceKind, NullHypothesis, Relabel
from harness.report.choices import Figures
from harness.samples.choices import ZScore
from harness.tracking.choices import TrackingKind


@dataclass
class ContrastSchema:
    """Classes: conditions, or ``{name: [conditions]}``; see `harness.samples.contrasts.make_contrast`."""

    conditions: list[Any] = field(default_factory=list)


@dataclass
class RoiSchema:
    """See `harness.samples.samples.Roi`."""

    mask: str = "vt"
    screening_percentile: float = 20.0


@dataclass
class SignalSchema:
    """See `harness.samples.signal.Signal`."""

    zscore: ZScore = ZScore.own
    detrend: bool = False
    smoothing_fwhm: float | None = None
    high_pass: float | None = None
    low_pass: float | None = None
    confounds: list[str] | None = None
    confounds_file: str | None = None
    lag: int = 0
    trim_first: int = 0
    trim_last: int = 0
    average_blocks: bool = False


@dataclass
class ScoringSchema:
    """See `harness.decoding.evaluation.Scoring`; `inner_folds` has nilearn's number."""

    select: Scorer = Scorer.roc_auc
    report: list[Scorer] = field(default_factory=lambda: list(Scorer))
    inner: InnerFolds = InnerFolds.stratified
    inner_folds: int = 10


@dataclass
class InferenceSchema:
    """The test of the scores; see `harness.inference.settings.PermutationSettings`."""

    kind: InferenceKind = InferenceKind.none
    relabel: Relabel = Relabel.blocks
    null: NullHypothesis = NullHypothesis.conditions_alike
    n: int = 1000
    limit: int = 10_000
    stop_early: bool = False
    maps: bool = True
    force: bool = False
    seed: int = 0
    processes: int | None = None


@dataclass
class TrackingSchema:
    """The run store, and the MLflow experiment of the runs in it."""

    kind: TrackingKind = TrackingKind.local
    folder: str = "mlruns"
    uri: str | None = None
    experiment: str | None = None


@dataclass
class RunSchema:
    """One run. The open groups hold a ``_target_`` and its arguments."""

    analysis: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    subject: int = 2
    contrast: ContrastSchema = field(default_factory=ContrastSchema)
    roi: RoiSchema = field(default_factory=RoiSchema)
    signal: SignalSchema = field(default_factory=SignalSchema)
    estimator: dict[str, Any] = field(default_factory=dict)
    cv: dict[str, Any] = field(default_factory=dict)
    scoring: ScoringSchema = field(default_factory=ScoringSchema)
    inference: InferenceSchema = field(default_factory=InferenceSchema)
    tracking: TrackingSchema = field(default_factory=TrackingSchema)
    seed: int = 0
    engine: Engine = Engine.harness
    resume: bool | None = None
    figures: Figures = Figures.auto
    cache: bool = True
    model: bool = False
