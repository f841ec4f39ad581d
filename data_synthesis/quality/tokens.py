"""The number of tokens of a store's answers in each VLM family and answer format."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick import embedded
from geoclick.codec import encode
from geoclick.data_synthesis.quality.measures import CODECS, UNCOUNTED, CountTokens
from geoclick.errors import GeoClickError, UsageError
from geoclick.store import Row
from geoclick.vlms import resizing

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def load_tokenizer(name: str) -> "Tokenizer":
    """The tokenizer in a local folder, or of the embedded VLM for `embedded`, without padding and truncation.

    Raises:
        UsageError: the folder holds no `tokenizer.json`.
        GeoClickError: the file is broken.
    """
    from tokenizers import Tokenizer

    folder = embedded.folder("vlm") if name == "embedded" else Path(name)
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UsageError(f"{folder} holds no tokenizer.json; give --tokenizer the folder of a Qwen-VL model.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception for whatever is wrong with the file
        raise GeoClickError(f"{path} is not a tokenizer; download or copy the model again.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def token_counter(tokenizer: "Tokenizer") -> CountTokens:
    """A function that counts the tokens of answers, without the token that ends the turn.

    It returns int [n, codecs] for n rows, in the order of CODECS; UNCOUNTED where an image is too narrow for a family
    whose answers are in pixels of the resized image.
    """

    def count(rows: Sequence[Row]) -> np.ndarray:
        texts = [text for row in rows for text in answers(row)]
        encoded = tokenizer.encode_batch([text or "" for text in texts], add_special_tokens=False)
        counts = [UNCOUNTED if t is None else len(e) for t, e in zip(texts, encoded, strict=True)]
        return np.array(counts, np.int32).reshape(len(rows), len(CODECS))

    return count


def answers(row: Row) -> list[str | None]:
    """The answer of a row by each of CODECS; None where the image is too narrow for the family."""
    size = row.height, row.width
    texts: list[str | None] = []
    for family, answer_format in CODECS:
        resized = resizing.resized_size(size) if family == resizing.FAMILY else None
        if family == resizing.FAMILY and resized is None:
            texts.append(None)
        else:
            texts.append(
                encode(
                    row.sequences,
                    family=family,
                    answer_format=answer_format,
                    image_size=size,
                    resized_size=resized,
                )
            )
    return texts
