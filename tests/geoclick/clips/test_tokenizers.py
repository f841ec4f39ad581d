import gzip
from pathlib import Path

import open_clip
import pytest

from geoclick.clips import tokenizers
from geoclick.errors import GeoClickError

TEXTS = [
    "a photo of a building.",
    "A  Photo\tof Bäume & Straßen's 2km² 中文 roads/paths (low-vegetation)",
    "it's 12345, don't!",
    "cafe\u0301 ..!!??",
    "",
]


def test_the_tokens_are_those_of_open_clip():
    tokenizer = tokenizers.for_checkpoint(Path("somewhere/model.pt"))
    expected = open_clip.get_tokenizer("ViT-B-32")(TEXTS)
    tokens = tokenizer(TEXTS, padding="longest", return_tensors="pt")["input_ids"]
    for ours, theirs in zip(tokens.tolist(), expected.tolist(), strict=True):
        end = ours.index(49407) + 1
        assert ours[:end] == theirs[:end]


def test_a_vocabulary_next_to_the_checkpoint_comes_first(tmp_path):
    file = tmp_path / tokenizers.VOCABULARY
    file.write_bytes(b"no gzip")
    with pytest.raises(GeoClickError, match="damaged or no vocabulary"):
        tokenizers.for_checkpoint(tmp_path / "model.pt")
    file.write_bytes(gzip.compress(b"header\na b\nb c\n"))
    with pytest.raises(GeoClickError, match="damaged or no vocabulary"):
        tokenizers.for_checkpoint(tmp_path / "model.pt")
    file.write_bytes(gzip.compress(b"header\na b\nb c"))
    with pytest.raises(GeoClickError, match="516 tokens, not CLIP's 49408"):
        tokenizers.for_checkpoint(tmp_path / "model.pt")


def test_without_a_vocabulary_the_error_names_the_ways_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizers, "_packages", list)
    with pytest.raises(
        GeoClickError, match=r"put bpe_simple_vocab_16e6.txt.gz next to .*install open_clip_torch"
    ):
        tokenizers.for_checkpoint(tmp_path / "model.pt")
