import socket
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import RayActorError, RayTaskError

from geoclick.errors import GeoClickError, UsageError
from geoclick.jobs import ray_pool
from geoclick.jobs.ray_pool import Pool, Workers, plan
from tests import fake_ray


def test_the_workers_share_the_resources_of_the_nodes():
    node = {"CPU": 8.0, "memory": 1e9}
    gpus = node | {"GPU": 2.0}
    auto = partial(plan, workers=None, device="auto")
    assert auto([node], 100) == Pool(8, 1, 0)
    assert auto([node, node], 100) == Pool(16, 1, 0)
    assert auto([node], 3) == Pool(3, 2, 0)
    assert auto([gpus, node], 100) == Pool(2, 4, 1)
    assert auto([gpus, gpus], 3) == Pool(3, 4, 1)
    assert plan([gpus], 100, workers=None, device="cpu") == Pool(8, 1, 0)
    assert plan([gpus], 100, workers=3, device="cuda") == Pool(3, 2, 0.5)
    assert (Pool(1, 1, 0.5).device, Pool(1, 1, 0).device) == ("cuda", "cpu")
    with pytest.raises(UsageError, match="no GPU for --device cuda"):
        plan([node], 4, workers=None, device="cuda")
    with pytest.raises(UsageError, match="CPUs for 8 workers, not 9; give --workers 8"):
        plan([node], 100, workers=9, device="auto")


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=4),
    st.integers(1, 40),
    st.none() | st.integers(1, 12),
)
def test_every_worker_has_a_place_and_none_could_have_more_cpus(nodes, shards, workers):
    nodes = [{"CPU": float(cpus), "GPU": float(gpus)} for cpus, gpus in nodes]

    def places(cpus, gpus):
        """Workers placed greedily, node by node."""
        found = 0
        for node in nodes:
            free_cpus, free_gpus = node["CPU"], [1.0] * int(node["GPU"])
            while free_cpus >= cpus:
                if gpus:
                    fit = next((i for i, free in enumerate(free_gpus) if free + 1e-9 >= gpus), None)
                    if fit is None:
                        break
                    free_gpus[fit] -= gpus
                free_cpus -= cpus
                found += 1
        return found

    try:
        pool = plan(nodes, shards, workers=workers, device="auto")
    except UsageError:
        # Without a number of workers, the nodes have too few CPUs for one per GPU, or for any.
        assert workers or not places(1, 0) or any(node["GPU"] > node["CPU"] for node in nodes)
        return
    assert 1 <= pool.workers <= min(shards, workers or shards)
    assert places(pool.cpus, pool.gpus) >= pool.workers
    assert places(pool.cpus + 1, pool.gpus) < pool.workers


def test_a_cluster_that_does_not_answer_is_an_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(GeoClickError, match=f"^No Ray cluster answers at {address}; give --ray-address"):
        ray_pool._check_head(address)


class Doubling:
    """Doubles numbers; some of them kill their worker, a number of times each, or fail."""

    def __init__(self, deadly=(), failing=()):
        self.deadly, self.failing = dict(deadly), dict(failing)

    def __call__(self, device):
        return self.double

    def describe(self, item):
        return f"the number {item}; give another one."

    def double(self, item):
        if self.deadly.get(item, 0):
            self.deadly[item] -= 1
            raise RayActorError
        if item in self.failing:
            raise self.failing[item]
        return 2 * item


@pytest.fixture
def cluster(monkeypatch):
    """Ray without processes: a call is made when the driver waits for it."""
    fake = fake_ray.Ray(seed=0)
    monkeypatch.setattr(ray_pool, "ray", fake)
    return fake


def doubled(setup, items, workers=3):
    """The results in the order in which they arrive, from workers of one CPU."""
    found = {}
    pool = Workers(setup, Pool(workers, 1, 0))
    pool.run(items, found.__setitem__)
    return found


@pytest.mark.parametrize(("count", "workers"), [(0, 2), (1, 3), (20, 1), (50, 4)])
def test_every_item_is_worked_on_once(cluster, count, workers):
    found = doubled(Doubling(), ((i, i) for i in range(count)), workers)
    assert found == {i: 2 * i for i in range(count)}
    assert cluster.started == workers
    if workers > 1 and count > 1:
        assert list(found) != sorted(found)


def test_items_are_taken_when_workers_are_free(cluster):
    taken, done = [], []

    def items():
        for number in range(40):
            taken.append(number)
            assert len(taken) - len(done) <= 3 + 2
            yield number, number

    Workers(Doubling(), Pool(3, 1, 0)).run(items(), lambda index, result: done.append(index))
    assert sorted(done) == taken == list(range(40))


def test_a_dead_worker_is_replaced_and_its_item_given_to_another_one(cluster, capsys):
    found = doubled(Doubling(deadly={4: 1, 7: 2}), ((i, i) for i in range(10)))
    assert found == {i: 2 * i for i in range(10)}
    assert cluster.started == 3 + 3
    assert capsys.readouterr().out == "3 workers died and were replaced.\n"


def test_a_single_worker_that_dies_at_its_last_item_is_replaced(cluster, capsys):
    assert doubled(Doubling(deadly={1: 1}), [(0, 0), (1, 1)], workers=1) == {0: 0, 1: 2}
    assert capsys.readouterr().out == "1 worker died and was replaced.\n"


def test_an_item_that_kills_every_worker_ends_the_job(cluster):
    with pytest.raises(
        GeoClickError, match=r"^3 workers died, one after another, on the number 5; give another"
    ):
        doubled(Doubling(deadly={5: 9}), ((i, i) for i in range(10)))


def test_workers_that_die_while_they_start_end_the_job(cluster):
    cluster.dead_on_start = True
    with pytest.raises(GeoClickError, match="workers die while they start"):
        doubled(Doubling(), [(0, 0)])


def test_errors_of_users_and_of_the_code_end_the_job(cluster):
    with pytest.raises(GeoClickError, match=r"^Too large; halve it"):
        doubled(Doubling(failing={3: GeoClickError("Too large; halve it.")}), ((i, i) for i in range(10)))
    error = RayTaskError("double", "a traceback", ZeroDivisionError())
    with pytest.raises(RayTaskError):
        doubled(Doubling(failing={3: error}), ((i, i) for i in range(10)))


def test_workers_stay_from_one_run_to_the_next_and_end_with_the_block(cluster):
    found = {}
    with ray_pool.opened(Doubling(), 5, ray_pool.Resources("cpu")) as workers:
        workers.run([(0, 7)], found.__setitem__)
        workers.run(((i, i) for i in range(1, 5)), found.__setitem__)
        assert workers.pool == Pool(3, 1, 0)
    assert found == {0: 14, 1: 2, 2: 4, 3: 6, 4: 8}
    assert (cluster.started, cluster.killed) == (3, 3)


def test_a_node_that_differs_is_named(cluster, tmp_path):
    ray_pool.check_folder(tmp_path)
    with pytest.raises(
        GeoClickError, match=r"^Node 10\.0\.0\.7 has no folder .*away; give --root an absolute path"
    ):
        ray_pool.check_folder(tmp_path / "away")
    ray_pool.check_equal({"vlm": "a", "side": 3}, {"vlm": "a", "side": 3})
    with pytest.raises(
        GeoClickError, match=r"^Node 10\.0\.0\.7 has another vlm than the first one, 'b' and not 'a'; "
    ):
        ray_pool.check_equal({"vlm": "b"}, {"vlm": "a"})
