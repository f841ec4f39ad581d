"""The options of the evaluation during training, which both trainers have."""

from dataclasses import dataclass

from geoclick.config import option
from geoclick.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """When and on how many held-out samples a run is evaluated, and when it stops."""

    evaluate_every: int = option(
        0,
        help="steps between evaluations on held-out samples; the best adapter is saved; 0 never",
        minimum=0,
    )
    evaluate_samples: int = option(
        96,
        help="smallest number of held-out samples; all samples of an image are held out together",
        minimum=1,
    )
    patience: int = option(
        0, help="stop after this many evaluations without a better mIoU; 0 never", minimum=0
    )

    def check_evaluation(self) -> None:
        """Refuse options of the evaluation that have no effect; raises UsageError."""
        if self.patience and not self.evaluate_every:
            raise UsageError("--patience has no effect without --evaluate-every; give that, too.")
