import pytest
import torch
from torch.nn.functional import normalize

from geoclick.clips import loading, text_embeddings
from geoclick.errors import GeoClickError
from tests import tiny_clips

TEMPLATES = ("a photo of a {}.", "{}", "many {}, from above")
QUERIES = ["road", "water {}", "Tree"]
MODELS = {"clip": tiny_clips.clip, "siglip": tiny_clips.siglip}


@pytest.fixture(params=MODELS)
def clip(request, tmp_path):
    folder = tiny_clips.folder(tmp_path / "model", MODELS[request.param]())
    return loading.load_clip(str(folder), device="cpu")


@torch.no_grad()
def one_by_one(clip, queries, templates):
    results = []
    for query in queries:
        embeddings = []
        for template in templates:
            before, after = template.split("{}")
            text = before + query + after
            if clip.is_siglip:
                text = text.lower()
            length = clip.model.config.text_config.max_position_embeddings
            tokens = clip.tokenizer([text], padding="max_length", max_length=length, return_tensors="pt")
            embedding = clip.model.get_text_features(tokens["input_ids"]).pooler_output[0]
            embeddings.append(embedding / embedding.norm())
        mean = sum(embeddings) / len(embeddings)
        results.append(mean / mean.norm())
    return torch.stack(results)


def short(clip):
    """Queries and templates that the tiny SigLIP can read."""
    return (["road", "C{}"], ("a {}.", "{}")) if clip.is_siglip else (QUERIES, TEMPLATES)


def test_embeddings_equal_those_of_one_text_at_a_time(clip):
    queries, templates = short(clip)
    embeddings = text_embeddings.text_embeddings(clip, queries, templates)
    assert embeddings.dtype == torch.float32
    assert (embeddings - one_by_one(clip, queries, templates)).abs().max() < 1e-5
    assert torch.allclose(embeddings, normalize(embeddings, dim=-1), atol=1e-6)


def test_embeddings_are_computed_once_and_read_from_the_cache(clip, tmp_path, monkeypatch):
    queries, templates = short(clip)
    cache = tmp_path / "cache"
    first = text_embeddings.text_embeddings(clip, queries, templates, cache=cache)
    assert len(list(cache.glob("*.npy"))) == len(queries)
    damaged = sorted(cache.glob("*.npy"))[0]
    damaged.write_bytes(b"")
    computed = []
    embed = text_embeddings._embed
    monkeypatch.setattr(text_embeddings, "_embed", lambda *a: computed.append(a[1]) or embed(*a))
    assert torch.equal(text_embeddings.text_embeddings(clip, queries, templates, cache=cache), first)
    assert computed == []
    clip.embeddings.clear()
    assert torch.equal(text_embeddings.text_embeddings(clip, queries, templates, cache=cache), first)
    assert len(computed) == 1
    assert damaged.stat().st_size
    text_embeddings.text_embeddings(clip, queries, templates[:1], cache=cache)
    assert len(computed) == 1 + len(queries)


def test_a_query_that_is_too_long_is_an_error(clip):
    with pytest.raises(GeoClickError, match="tokens with its template"):
        text_embeddings.text_embeddings(clip, ["road " * 20], ("a {}.",))
