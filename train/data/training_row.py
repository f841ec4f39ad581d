"""What the collators take."""

from typing import NotRequired, TypedDict

from geoclick.train.augmentation.image_views import ImageView


class TrainingRow(TypedDict):
    """A chat with its images as the collators take it.

    Attributes:
        images: the paths of the images in the order of their image tokens, see `mask_overlay.reference`; there may be
            none.
        size: height and width of the first image in pixels, then those of the next one.
        prompt_ids: tokens of the prompt, one image token for each image.
        completion_ids: tokens of the answer.
        view: what an augmented row shows of the image.
        source: number of its source, in a run with several.
        kind: of its answer, see `geoclick.train.data.task_weights`; other rows than clicks have none.
    """

    images: list[str]
    size: list[int]
    prompt_ids: list[int]
    completion_ids: list[int]
    view: NotRequired[ImageView]
    kind: NotRequired[str]
    source: NotRequired[int]


class RawRow(TrainingRow):
    """A training row with what `geoclick.train.augmentation.augment` needs.

    Attributes:
        sample_id: of the sample.
        task: of the sample.
        image: as the store names it.
        query: the user's text.
        mask: the counts of the target's RLE.
        clicks: [x, y, 1 or 0] of each click of the answer, in pixels.
        parts: number of clicks of each part.
        given: number of first clicks that are not taught.
        answer_format: of the row's source.
    """

    sample_id: str
    task: str
    image: str
    query: str
    mask: str
    clicks: list[list[float]]
    parts: list[int]
    given: int
    answer_format: str
