"""Hypothesis without a deadline: on a shared machine a slow example is no failure."""

from hypothesis import settings

settings.register_profile("calm", deadline=None)
settings.load_profile("calm")
