import socket
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick.errors import GeoClickError, UsageError
from geoclick.jobs import ray_pool
from geoclick.jobs.ray_pool import Pool, plan


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
