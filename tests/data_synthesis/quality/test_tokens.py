import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from geoclick.clicks import Click
from geoclick.codec import NO_TARGET, decode
from geoclick.data_synthesis.quality.measures import CODECS, UNCOUNTED
from geoclick.data_synthesis.quality.tokens import answers, load_tokenizer, token_counter
from geoclick.errors import GeoClickError, UsageError
from geoclick.vlms.resizing import resized_size
from tests.data_synthesis.click_rows import make_row

SQUARE = np.ones((60, 90), bool)
CLICKS = [Click(3, 4), Click(80.5, 55, False), Click(0, 59)]


def test_every_codec_writes_the_stored_clicks():
    row = make_row(SQUARE, CLICKS, [0.5] * 3)
    resized = resized_size((60, 90))
    for (family, answer_format), text in zip(CODECS, answers(row), strict=True):
        frame = {"family": family, "answer_format": answer_format, "image_size": (60, 90)}
        answer = decode(text, **frame, resized_size=resized)
        assert answer.status == "ok"
        for found, click in zip(answer.clicks, CLICKS, strict=True):
            assert found.positive == click.positive
            assert abs(found.x - click.x) <= max(90 / 1000, 90 / resized[1]) / 2 + 1e-6
            assert abs(found.y - click.y) <= max(60 / 1000, 60 / resized[0]) / 2 + 1e-6


def test_no_target_has_an_answer():
    texts = answers(make_row(np.zeros((60, 90), bool)))
    assert texts == [NO_TARGET[answer_format] for _, answer_format in CODECS]


def character_tokenizer(folder):
    """A tokenizer whose tokens are characters, and which would pad and cut."""
    text = '+-(), []{}:"_0123456789abcdefghijklmnopqrstuvwxyz'
    tokenizer = Tokenizer(models.WordLevel({c: i for i, c in enumerate(text)}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.enable_padding(length=500)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(folder / "tokenizer.json"))


def test_the_named_tokenizer_counts_without_padding_and_truncation(tmp_path):
    character_tokenizer(tmp_path)
    rows = [make_row(SQUARE, CLICKS[:n], [0.5] * n) for n in (3, 1, 0)]
    counts = token_counter(load_tokenizer(str(tmp_path)))(rows)
    assert counts.tolist() == [[len(text) for text in answers(row)] for row in rows]


def test_the_embedded_tokenizer_decodes_every_answer():
    tokenizer, row = load_tokenizer("embedded"), make_row(SQUARE, CLICKS, [0.5] * 3)
    counts = token_counter(tokenizer)([row])[0]
    for text, count in zip(answers(row), counts, strict=True):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == text
        assert len(ids) == count


def test_images_too_narrow_for_a_family_are_not_counted(tmp_path):
    counts = token_counter(load_tokenizer("embedded"))([make_row(np.ones((2, 500), bool))])[0]
    for (family, _), count in zip(CODECS, counts, strict=True):
        assert (count == UNCOUNTED) == (family == "qwen2_5_vl")


def test_folders_without_a_tokenizer_are_errors(tmp_path):
    with pytest.raises(UsageError, match="--tokenizer"):
        load_tokenizer(str(tmp_path / "nowhere"))
    for content in ("{", json.dumps({"model": {"type": "Unheard"}}), "[1]"):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(GeoClickError, match="is not a tokenizer"):
            load_tokenizer(str(tmp_path))
