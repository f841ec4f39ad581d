"""The rules by which published evaluations score a mask; importing them loads no other library.

Each rule was read in the published code:

- rmsin (test.py of RMSIN): image and target are resized to 480x480, the target by nearest neighbor; an empty union
  scores 0.
  On RRSIS-D it differs from the original in two points: where the RLE of a target decodes to planes that overlap,
  their union is the target, there only the pixels in exactly one plane; and a mask is made at the image's size and
  resized, there it is made on the resized image.
- segearth-r1 (eval.py and RS_val_dataset.py of SegEarth-R1): target and mask are letterboxed to 1024x1024: resized by
  nearest neighbor so that the long side is 1024, and padded, which changes no count; an empty union scores 1; Pr@X
  requires more than X; the first of several questions is asked. This mode differs from the original in three points:
  1e-5 is not added to every union; the summed IoU of a set without any pixel is 1, there 0; and a mask is made at the
  image's size and letterboxed, there it is made on the letterboxed image. On EarthReason the original gives the true
  answer to the model, which is not done here.
- think2seg (src/eval and geo_reward_func_ultra.py of Think2Seg-RS): image and target are resized to 840x840, the target
  by nearest neighbor; one of several questions is asked, drawn with seed 0. Without a target, an answer that names
  nothing scores 1, text that cannot be parsed scores 0, and the pixels of a false alarm are not added to the summed
  union. Pr@X is a share of the answered samples only: those with a mask, or with a parsed answer where there is no
  target. This mode differs from the original in two points: questions are drawn per sample, there in the order in which
  the disk lists the files; and a mask is made at the image's size and resized, there it is made on the resized image.
  An answer whose clicks give an empty mask is assumed to count as naming nothing.
- semantic (mmsegmentation's IoUMetric, which SegEarth-OV uses): pixels of the complete set, see semantic.py.
"""

from dataclasses import dataclass

from geoclick.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How a published evaluation scores.

    Attributes:
        side: both masks are resized to side x side; None keeps their size.
        letterbox: whether the aspect ratio is kept: the long side becomes `side`, and the rest is padding.
        empty: the IoU of an empty union.
        strict: whether Pr@X counts IoU > X instead of >=.
        by_answer: whether a sample without target is scored by its answer alone, outside of the summed union.
        of_answered: whether Pr@X is a share of the answered samples only.
        question: which of several questions about a target are asked; None leaves it open.
    """

    side: int | None = None
    letterbox: bool = False
    empty: float = 1.0
    strict: bool = False
    by_answer: bool = False
    of_answered: bool = False
    question: str | None = None


MODES = {
    "native": Mode(),
    "rmsin": Mode(side=480, empty=0.0),
    "segearth-r1": Mode(side=1024, letterbox=True, strict=True, question="first"),
    "think2seg": Mode(side=840, empty=0.0, by_answer=True, of_answered=True, question="random"),
    "semantic": Mode(),
}


def mode_named(name: str) -> Mode:
    """The rules of a mode; raises UsageError for an unknown one."""
    if name not in MODES:
        raise UsageError(f"Unknown score mode {name!r}; choose one of {', '.join(MODES)}.")
    return MODES[name]
