"""Where the checkout and the shared data lie."""

import os
from pathlib import Path

REPO = Path(__file__).parents[1]
SHARED = Path(os.environ.get("GEOCLICK_SHARED", REPO.parent / "shared"))
