"""An app in the browser: queries about images, with clicks that can be edited and saved for training.

geoclick app
geoclick app --images tiles/ --adapter runs/lora --output runs/app

Corrections are rows of the click store OUTPUT/clicks, and OUTPUT/images holds the images it names:
`geoclick train sft --clicks OUTPUT/clicks --root OUTPUT --output runs/lora`.
"""

import sys
from pathlib import Path

from geoclick import output_folder
from geoclick.command import Command
from geoclick.inference.app import options as checks
from geoclick.inference.app.options import AppOptions


def run(options: AppOptions) -> None:
    """Check the request, load the models, and serve the page."""
    checks.check(options)
    folder = Path(options.output)
    output_folder.check(folder, "app")
    checks.check_installed()
    checks.check_address(options)
    print("Loading the models.", flush=True)
    from geoclick.inference.app import models, saving, server
    from geoclick.inference.app.handlers import Handlers

    with output_folder.opened(folder, "app"):
        corrections = saving.open_folder(options)
        images = None if options.images is None else Path(options.images)
        server.serve(Handlers(models.load(options), corrections, images), options)


main = Command(
    prog="geoclick app",
    options=AppOptions,
    run=run,
    description="An app in the browser: queries about images, with clicks that can be edited and saved for training.",
    example="geoclick app --images tiles/",
)


if __name__ == "__main__":
    sys.exit(main())
