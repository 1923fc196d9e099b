"""What is decoded from a recording, and how."""

from dataclasses import dataclass, field

from harness.decoding.choices import Engine
from harness.decoding.estimator import Estimator
from harness.decoding.evaluation import Scoring
from harness.decoding.splitters import Scheme
from harness.errors import UsageError
from harness.samples.contrasts import Contrast
from harness.samples.samples import Roi
from harness.samples.signal import Signal


@dataclass(frozen=True)
class Question:
    """What is decoded from a recording, and how.

    Attributes
    ----------
    roi : Roi
        By default ventral temporal cortex.
    signal : Signal
        By default standardised as nilearn's Decoder does.
    scoring : Scoring
        By default roc_auc selects, and accuracy, balanced accuracy and roc_auc are reported.
    engine : {"harness", "nilearn"}
        Whose Decoder fits and predicts. nilearn's receives the samples of nilearn's masker, which are
        float64 for some images; see `harness.samples.samples.load_samples`.

    Raises
    ------
    UsageError
        If the engine is unknown.
    """

    contrast: Contrast
    estimator: Estimator
    scheme: Scheme
    roi: Roi = field(default_factory=Roi)
    signal: Signal = field(default_factory=Signal)
    scoring: Scoring = field(default_factory=Scoring)
    engine: str = Engine.harness.value

    def __post_init__(self) -> None:
        if self.engine not in list(Engine):
            raise UsageError(f"engine={self.engine!r} is unknown; expected one of {', '.join(Engine)}")
