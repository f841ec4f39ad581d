"""Random changes of JSON that leave it JSON: another value somewhere, a value less, a value twice."""

import json
import random

HOSTILE = (
    *(None, True, False, 0, 1, -1, 0.5, 1e300, float("nan"), float("inf"), 2**31, 2**63, 10**30, 1e-300),
    *("", " ", "a", "1", "\ud800", "\x00", "%00", "../a.png", "a" * 300, "A" * 5000, "\u0663", "\x1b[31m"),
    *([], {}, [[]], [None], {"size": [12, 12], "counts": ""}, [0, 0], ["a"], [1e9, 1e9], [-1, -1, -1]),
)
"""Values that take the place of others."""


def changed(data, seed):
    """Another input for a target that reads JSON after its first byte; None if it is none before the change."""
    rng = random.Random(seed)
    try:
        holder = [json.loads(data[1:])]
    except (ValueError, RecursionError):
        return None
    for _ in range(rng.randint(1, 3)):
        change(holder, rng)
    first = bytes([rng.randrange(256)]) if rng.random() < 0.1 else data[:1]
    return first + json.dumps(holder[0], ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def change(holder, rng):
    """Change one value inside a list of one value."""
    places = list(places_in(holder))
    inner, key = rng.choice(places)
    other, name = rng.choice(places)
    way = rng.random()
    if way < 0.5:
        inner[key] = copied(rng.choice(HOSTILE))
    elif way < 0.7:
        inner[key] = copied(other[name])
    elif way < 0.8 and inner is not holder:
        del inner[key]
    elif isinstance(inner, list):
        if inner is not holder:
            inner.append(copied(inner[key]))
    elif isinstance(inner[key], int | float):
        inner[key] += rng.choice((-1, 1, 0.5, 100))
    else:
        inner[f"{key}2"] = inner.pop(key)


def copied(value):
    """A copy, so that no later change concerns both places."""
    return json.loads(json.dumps(value))


def places_in(value):
    """(list or dict, index or key) of each value inside a value."""
    keys = range(len(value)) if isinstance(value, list) else list(value)
    for key in keys:
        yield value, key
        if isinstance(value[key], list | dict):
            yield from places_in(value[key])
