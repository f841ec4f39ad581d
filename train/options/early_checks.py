"""What a training command refuses before it imports a model library: outputs, stores and folders."""

from pathlib import Path

from geoclick import output_folder
from geoclick.errors import GeoClickError, UsageError
from geoclick.train.options.mixture import MixtureOptions, sources_of


def check_output(output: Path, command: str, *, resume: bool) -> None:
    """Refuse an output folder of another command, one that holds a run unless it is resumed, or one without access."""
    from geoclick.train.loop import checks, resumption

    if resume:
        resumption.check_unfinished(output)
    else:
        resumption.check_fresh(output)
    output_folder.check(output, command)
    checks.check_writable(output)


def check_root(root: str) -> None:
    """Raise UsageError if the dataset's folder does not exist."""
    if not Path(root).is_dir():
        raise UsageError(f"Dataset root {root} is not a folder; give --root an existing one.")


def check_store(clicks: str) -> None:
    """Raise GeoClickError if a folder holds no click store."""
    folder = Path(clicks)
    if not folder.is_dir() or not any(folder.glob("clicks-*.parquet")):
        raise GeoClickError(
            f"{clicks} holds no click store; make one with 'geoclick synth --output {clicks}'."
        )


def check_sources(options: MixtureOptions) -> None:
    """Refuse missing stores, files of chats and folders; raises UsageError also for numbers that do not fit."""
    for source in sources_of(options, "compact"):
        if not source.is_chats:
            check_store(source.path)
        elif not Path(source.path).is_file():
            raise GeoClickError(f"{source.path} does not exist; give --chats an existing file.")
        check_root(source.root)


def check_adapter(adapter: str) -> None:
    """Raise GeoClickError if an adapter's folder does not exist."""
    if not Path(adapter).is_dir():
        raise GeoClickError(
            f"Adapter folder {adapter} does not exist; give the output folder of a training run."
        )
