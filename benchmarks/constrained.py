"""Libraries for constrained decoding on the patterns of answers, and what the constraint costs a model.

    python -m benchmarks.constrained --tokenizer ../shared/data/tokenizers
    python -m benchmarks.constrained --tokenizer embedded --queries 48

For each installed library: CPU seconds to read the tokenizer, milliseconds to compile a pattern, microseconds of the
mask of a token (mean and largest) on the way through answers, and whether every token of the answers was allowed. With
`--queries`, CPU seconds of the embedded VLM with and without the constraint, in turns. On one thread, CPU time.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import random_models
from geoclick import codec
from geoclick.clicks import Click
from geoclick.codec import Frame
from geoclick.command import Command
from geoclick.config import option
from geoclick.vlms import loading

SIZE = (400, 500)
FRAMES = (
    Frame("qwen3_vl", "compact", SIZE),
    Frame("qwen3_vl", "json", SIZE),
    Frame("qwen2_5_vl", "compact", SIZE, (1036, 1204)),
    Frame("qwen2_5_vl", "json", SIZE, (1036, 1204)),
)
SEQUENCES = 20
QWEN_SCORES = 151_936
"""Scores of the published Qwen-VL; their tokenizers have fewer tokens."""


@dataclass(frozen=True, kw_only=True)
class ConstrainedOptions:
    """Options of `python -m benchmarks.constrained`."""

    tokenizer: str = option("embedded", help="embedded, or a folder with Qwen's tokenizer")
    queries: int = option(0, help="queries to the embedded VLM", minimum=0)


@dataclass(frozen=True)
class Library:
    """A library on a tokenizer.

    Attributes:
        compile: a pattern to what `start` takes.
        start: a new answer of a compiled pattern.
        fill: the mask of the next token of an answer into the bits, int32 [1, words].
        consume: a token of an answer.
    """

    compile: Callable[[str], Any]
    start: Callable[[Any], Any]
    fill: Callable[[Any, np.ndarray], None]
    consume: Callable[[Any, int], Any]


def llguidance(tokenizer: Any, scores: int, end: int) -> Library:
    """Llguidance (MIT)."""
    from llguidance import LLMatcher, LLTokenizer
    from llguidance.numpy import fill_next_token_bitmask

    tokens = LLTokenizer(tokenizer.backend_tokenizer.to_str(), n_vocab=scores, eos_token=end)
    return Library(
        compile=lambda pattern: LLMatcher(tokens, LLMatcher.grammar_from_regex(pattern)),
        start=lambda matcher: matcher.deep_copy(),
        fill=fill_next_token_bitmask,
        consume=lambda matcher, token: matcher.consume_token(token),
    )


def xgrammar(tokenizer: Any, scores: int, end: int) -> Library:
    """Xgrammar (Apache-2.0)."""
    import xgrammar

    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=scores, stop_token_ids=[end])
    compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
    return Library(
        compile=compiler.compile_regex,
        start=xgrammar.GrammarMatcher,
        fill=lambda matcher, bits: matcher.fill_next_token_bitmask(torch.from_numpy(bits), 0),
        consume=lambda matcher, token: matcher.accept_token(token),
    )


def outlines_core(tokenizer: Any, scores: int, end: int) -> Library:
    """outlines-core (Apache-2.0)."""
    from outlines_core import Guide, Index, Vocabulary
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    codes = {character: code for code, character in bytes_to_unicode().items()}
    known: dict[bytes, list[int]] = {}
    for word, number in tokenizer.get_vocab().items():
        if word not in tokenizer.added_tokens_encoder:
            known.setdefault(bytes(codes[character] for character in word), []).append(number)
    vocabulary = Vocabulary(end, known)
    return Library(
        compile=lambda pattern: Index(pattern, vocabulary),
        start=Guide,
        fill=lambda guide, bits: guide.write_mask_into(bits.ctypes.data, bits.size, bits.itemsize),
        consume=lambda guide, token: guide.advance(token, return_tokens=False),
    )


LIBRARIES = {"llguidance": llguidance, "xgrammar": xgrammar, "outlines-core": outlines_core}


def sequences(frame: Frame) -> list[str]:
    """Answers of different lengths."""
    drawn = random.Random(0)
    counts = [drawn.choice((0, 1, 2, 4, 8, codec.MAX_CLICKS)) for _ in range(SEQUENCES)]
    return [
        frame.encode(
            Click(drawn.randrange(SIZE[1]), drawn.randrange(SIZE[0]), drawn.random() < 0.6)
            for _ in range(count)
        )
        for count in counts
    ]


def measure(library: Library, frame: Frame, tokenizer: Any, scores: int, end: int) -> str:
    """The figures of a library and a pattern, as cells of a table."""
    start = time.process_time()
    compiled = library.compile(frame.pattern())
    seconds, allowed = time.process_time() - start, True
    bits, times = np.zeros((1, -(-scores // 32)), np.int32), []
    for text in sequences(frame):
        answer = library.start(compiled)
        for token in [*tokenizer.encode(text), end]:
            started = time.thread_time()
            library.fill(answer, bits)
            times.append(time.thread_time() - started)
            allowed &= bool(bits.view(np.uint8)[0, token // 8] >> token % 8 & 1)
            if token != end:
                library.consume(answer, token)
    mean, largest = 1e6 * np.mean(times), 1e6 * max(times)
    return f"{1e3 * seconds:.1f} | {mean:.0f} | {largest:.0f} | {'yes' if allowed else 'NO'}"


def overhead(queries: int) -> None:
    """Print the CPU seconds of the embedded VLM with and without the constraint."""
    from geoclick.inference.backends.local import Local
    from geoclick.inference.generative.settings import Generation
    from geoclick.scenes.drawing import sample_scene

    vlm = loading.load("embedded", device="cpu")
    drawn = [sample_scene(0, "test", number, ["referring"]) for number in range(queries)]
    images, texts = [image for image, _, _ in drawn], [asked[0].text for _, _, asked in drawn]
    for answer_format in codec.FORMATS:
        used = {False: 0.0, True: 0.0}
        for turn in range(4):
            for constrained in (False, True):
                made = Local(vlm, Generation(answer_format=answer_format, constrained=constrained))
                start = time.process_time()
                made.answer(images, texts)
                # The first turn reads the tokenizer and warms up.
                used[constrained] += (time.process_time() - start) * (turn > 0)
        print(
            f"{answer_format}: {used[False] / 3:.2f} s CPU free, {used[True] / 3:.2f} constrained, "
            f"{100 * (used[True] / used[False] - 1):+.1f} %"
        )


def run(options: ConstrainedOptions) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    if options.tokenizer == "embedded":
        tokenizer: Any = loading.load_processor(loading.EMBEDDED).tokenizer
        config = json.loads((loading.EMBEDDED / "config.json").read_text(encoding="utf-8"))
        scores = config["text_config"]["vocab_size"]
    else:
        tokenizer, scores = random_models.load_tokenizer(Path(options.tokenizer)), QWEN_SCORES
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    print("| library | pattern | compile, ms | mask, us | largest | all allowed |")
    print("|---|---|---|---|---|---|")
    for name, make in LIBRARIES.items():
        start = time.process_time()
        try:
            library = make(tokenizer, scores, end)
        except ModuleNotFoundError:
            print(f"{name} is not installed.")
            continue
        print(f"| {name} | tokenizer: {time.process_time() - start:.2f} s CPU | | | | |")
        for frame in FRAMES:
            pattern = f"{frame.family} {frame.answer_format}"
            print(f"| {name} | {pattern} | {measure(library, frame, tokenizer, scores, end)} |", flush=True)
    if options.queries:
        overhead(options.queries)


main = Command(
    prog="python -m benchmarks.constrained",
    options=ConstrainedOptions,
    run=run,
    description="Libraries for constrained decoding, and what the constraint costs the embedded VLM.",
    example="python -m benchmarks.constrained --tokenizer ../shared/data/tokenizers",
)


if __name__ == "__main__":
    sys.exit(main())
