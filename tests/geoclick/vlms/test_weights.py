import numpy as np
import pytest

from geoclick.vlms import weights


@pytest.mark.parametrize("position", [0, 999, 1000, 1999, 2500, -1])
def test_every_byte_of_every_file_counts(tmp_path, monkeypatch, position):
    monkeypatch.setattr(weights, "BLOCK", 1000)
    content = np.random.default_rng(0).bytes(3000)
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(content)
    before = weights.weights_sha256(tmp_path)
    assert weights.weights_sha256(tmp_path) == before
    changed = bytearray(content)
    changed[position] ^= 1
    (tmp_path / "b.safetensors").write_bytes(changed)
    assert weights.weights_sha256(tmp_path) != before


def test_the_order_of_blocks_and_the_length_count(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "BLOCK", 4)
    hashes = set()
    for content in (b"aaaabbbb", b"bbbbaaaa", b"aaaabbb", b""):
        (tmp_path / "a.safetensors").write_bytes(content)
        hashes.add(weights.weights_sha256(tmp_path))
    assert len(hashes) == 4
