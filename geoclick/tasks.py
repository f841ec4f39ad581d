"""The kinds of queries."""

TASKS = ("referring", "reasoning", "semantic", "no_target", "all_of_a_kind", "several_by_purpose", "hard")
"""Kinds of queries: one object that is named, or described by its purpose; a class; nothing; all objects of a kind; all
that serve a purpose; one object that is hard to segment. The last three are of procedural scenes."""
