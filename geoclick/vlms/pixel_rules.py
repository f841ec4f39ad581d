"""Whether a model is shown images by the rule of its training."""

from geoclick.geo.reading import PixelOptions, recorded_rule
from geoclick.vlms.adapter import AdapterRecord
from geoclick.vlms.merged import MergedRecord


def warning(record: AdapterRecord | MergedRecord | None, pixels: PixelOptions) -> str:
    """One sentence if an adapter was trained on images that were shown by another rule than `pixels`; else empty."""
    adapter = record.adapter if isinstance(record, MergedRecord) else record
    recorded = adapter.pixels if adapter else {}
    trained = recorded_rule(recorded)
    if not recorded or trained == pixels:
        return ""
    bands = f"--bands {' '.join(map(str, trained.bands))}" if trained.bands else "the default bands"
    stretch = " ".join(f"{value:g}" for value in trained.stretch) or "none"
    return (
        f"the adapter was trained on images shown with {bands} and --stretch {stretch}; give the same options, unless "
        "these images are shown so already."
    )
