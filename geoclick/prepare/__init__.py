"""Preparation jobs: from the public downloads of the benchmarks to the layouts of the readers."""

from geoclick.prepare.inria import INRIA
from geoclick.prepare.isaid import ISAID
from geoclick.prepare.isprs import POTSDAM, VAIHINGEN
from geoclick.prepare.jobs import Job, Split
from geoclick.prepare.loveda import LOVEDA
from geoclick.prepare.uavid import UAVID
from geoclick.prepare.xbd import XBD

JOBS: dict[str, Job] = {
    "potsdam": POTSDAM,
    "vaihingen": VAIHINGEN,
    "isaid": ISAID,
    "uavid": UAVID,
    "inria": INRIA,
    "loveda": LOVEDA,
    "xbd": XBD,
}

__all__ = ["JOBS", "Job", "Split"]
