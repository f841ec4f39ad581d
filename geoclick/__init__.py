"""GeoClick: from a sentence to a mask of overhead imagery, through clicks."""

__version__ = "0.1.0"
