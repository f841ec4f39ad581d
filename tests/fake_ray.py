"""Ray without processes, for tests of what a driver does: calls are made in this process, in a random order."""

import random
from types import SimpleNamespace


class Ray:
    """What `geoclick.jobs.ray_pool` uses of the module ray.

    Attributes:
        started: number of actors.
        killed: number of actors that were ended.
        dead_on_start: whether every actor dies before it is ready.
    """

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.started = self.killed = 0
        self.dead_on_start = False
        self.util = SimpleNamespace(get_node_ip_address=lambda: "10.0.0.7")

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 3.0}}]

    def is_initialized(self):
        return True

    def put(self, value):
        return value

    def remote(self, kind):
        return _Class(self, kind)

    def wait(self, calls, num_returns):
        assert num_returns == 1
        chosen = self.random.choice(calls)
        return [chosen], [call for call in calls if call is not chosen]

    def get(self, call):
        return call()

    def kill(self, actor):
        self.killed += 1


class _Class:
    def __init__(self, ray, kind):
        self.ray, self.kind = ray, kind

    def options(self, **resources):
        return self

    def remote(self, *args):
        self.ray.started += 1
        return _Actor(self.ray, self.kind(*args))


class _Actor:
    def __init__(self, ray, instance):
        self._ray, self._instance = ray, instance

    def __getattr__(self, name):
        return _Method(self._ray, getattr(self._instance, name), name)


class _Method:
    def __init__(self, ray, function, name):
        self.ray, self.function, self.name = ray, function, name

    def remote(self, *args):
        def call():
            if self.name == "ready" and self.ray.dead_on_start:
                from ray.exceptions import RayActorError

                raise RayActorError
            return self.function(*args)

        return call
