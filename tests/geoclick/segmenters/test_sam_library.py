"""segment-anything is imported by parts, and is complete for whoever imports it before or after."""

import subprocess
import sys

import numpy as np
import pytest
from segment_anything.utils.transforms import ResizeLongestSide

from geoclick.segmenters import resizing

OURS = "from geoclick.segmenters import sam_library as ours"

THEIRS = [
    "from segment_anything import SamPredictor",
    "from segment_anything import *",
    "import segment_anything; segment_anything.SamPredictor, segment_anything.modeling.Sam",
    "import segment_anything.automatic_mask_generator as m; m.SamAutomaticMaskGenerator",
    "from segment_anything import sam_model_registry; sam_model_registry['vit_b']",
]


def python(*lines):
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "theirs", [THEIRS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in THEIRS[1:])]
)
def test_the_library_is_complete_after_it_was_imported_by_parts(theirs):
    same = "from segment_anything.predictor import Sam; assert Sam is ours.Sam"
    python(OURS, "import sys; assert 'torchvision' not in sys.modules", theirs, same)


@pytest.mark.slow
def test_a_library_that_is_imported_already_is_used():
    same = "import segment_anything as whole; assert ours.Sam is whole.modeling.Sam"
    python(THEIRS[0], "import segment_anything as first", OURS, same, "assert whole is first")


@pytest.mark.parametrize("size", [(256, 256), (100, 301), (1, 7), (512, 333), (1024, 64)])
def test_images_and_points_are_resized_as_by_segment_anything(size):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    points = rng.random((4, 2)) * size[::-1]
    theirs = ResizeLongestSide(256)
    np.testing.assert_array_equal(resizing.resize(image, 256), theirs.apply_image(image))
    np.testing.assert_array_equal(
        resizing.resize_points(points.tolist(), size, 256), theirs.apply_coords(points, size)
    )
