"""Speed of generation: a user's loop over transformers' `generate`, compared with the backend `local`.

    python -m benchmarks.inference --output runs/inference --adapter runs/lora
    python -m benchmarks.inference --output runs/inference --model qwen3_vl_2b --tokenizer FOLDER --max-new-tokens 48

The ways, in `ways`: `one-by-one` calls processor and `generate` for each sample; `batched` calls `generate` for batches
padded on the left; `shared` is the backend `local`, which computes each image once for all of its queries;
`constrained` and `compiled` are the same with `--constrained`, by default where llguidance is installed, and with
`--compile`, by default on a GPU. They run in turns on the same samples, so that the load of the machine affects all of
them, and their answers are compared with those of one-by-one. For each number of queries an image, inference.json has
the median seconds of the rounds, wall-clock and CPU, and the ratios.

`formats` compares the answer formats: the same random clicks, 1 to 6 in an answer, as `compact` and `json`, tokens an
answer and seconds for the backend `local` to write them (the tokens are given, so that the model's skill does not
matter). With `--tokenizer` there are also the tokens of that tokenizer, such as that of the published models.

`--model` is `embedded`, or an architecture of benchmarks/random_models.py with random weights and images resized to
`--side`; its answers have `--max-new-tokens` tokens, and in bfloat16 some differ by rounding.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.inference_ways import WAYS, Task
from benchmarks.training_options import MODELS
from geoclick import config, files, prompts
from geoclick.clicks import Click
from geoclick.command import Command
from geoclick.config import option
from geoclick.errors import UsageError

if TYPE_CHECKING:
    import torch

    from geoclick.vlms import Vlm

SIDE = 800
"""Side of the images of an architecture."""
MOST_CLICKS = 6
FORMATS = ("compact", "json")


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """Options of `python -m benchmarks.inference`."""

    output: str = option(help="folder for inference.json")
    model: str = option("embedded", help="embedded, or an architecture with random weights", choices=MODELS)
    adapter: str | None = option(None, help="adapter of the embedded model")
    tokenizer: str | None = option(
        None,
        help="folder with Qwen's tokenizer.json or qwen.tiktoken, for an architecture and for the answer formats",
    )
    side: int | None = option(
        None, help=f"side of the square images (default: {SIDE}; original size for embedded)", minimum=32
    )
    samples: int = option(64, help="samples of a round", minimum=1)
    queries: tuple[int, ...] = option((1, 8), help="queries an image, one measurement each", minimum=1)
    batch_size: int = option(32, help="queries in one call of the model", minimum=1)
    rounds: int = option(5, help="timed rounds", minimum=1)
    ways: tuple[str, ...] = option((), help="the ways to compare (default: all that suit the device)")
    answer_format: str | None = option(
        None, choices=FORMATS, help="format of the answers (default: the adapter's, else json)"
    )
    max_new_tokens: int | None = option(
        None, help="length limit of an answer (default: depends on the format)"
    )
    formats: bool = option(True, help="compare the answer formats")
    device: str = option("auto", help="auto, cpu or cuda")
    precision: str = option(
        "auto", help="auto is bfloat16 on CUDA, else float32", choices=("auto", "float32", "bfloat16")
    )
    threads: int | None = option(None, help="CPU threads (default: PyTorch's)", minimum=1)
    seed: int = option(0, help="random seed (weights, images, clicks)")


def load(options: InferenceOptions, device: "torch.device") -> "Vlm":
    """The model, with its processor's limits set to `--side`."""
    import torch

    from benchmarks import random_models
    from geoclick import vlms

    if options.threads:
        torch.set_num_threads(options.threads)
    cuda = device.type == "cuda"
    name = ("bfloat16" if cuda else "float32") if options.precision == "auto" else options.precision
    dtype = getattr(torch, name)
    if options.model == "embedded":
        return vlms.load(adapter=options.adapter, device=device, dtype=dtype)
    if options.tokenizer is None:
        raise UsageError("An architecture needs --tokenizer, the folder of Qwen's tokenizer.")
    tokenizer = random_models.load_tokenizer(Path(options.tokenizer))
    return random_models.build(options.model, tokenizer, dtype=dtype, device=device, seed=options.seed)


def draw(options: InferenceOptions, queries: int) -> tuple[list[np.ndarray], list[str]]:
    """Images of scenes and queries, `queries` for each image; the first ones of an image are about it."""
    from PIL import Image

    from geoclick.scenes.drawing import TASKS, sample_scene

    count = -(-options.samples // queries)
    scenes = [
        sample_scene(options.seed, "benchmark", index, TASKS) for index in range(max(count, 1 + queries // 3))
    ]
    side = options.side or (None if options.model == "embedded" else SIDE)
    texts = [query.text for _, _, asked in scenes for query in asked]
    images, chosen = [], []
    for index in range(count):
        image = scenes[index][0]
        if side:
            image = np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
        for number in range(queries):
            images.append(image)
            chosen.append(texts[(index * len(TASKS) + number) % len(texts)])
    return images[: options.samples], chosen[: options.samples]


class Timer:
    """Wall-clock and CPU seconds of calls; waits for the GPU."""

    def __init__(self, device: "torch.device") -> None:
        self.device = device

    def now(self) -> tuple[float, float]:
        """Seconds since some moment, wall-clock and CPU."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.process_time()

    def call(self, function: Callable[[], Any]) -> tuple[Any, float, float]:
        """What a function returns, and its wall-clock and CPU seconds."""
        start = self.now()
        value = function()
        end = self.now()
        return value, end[0] - start[0], end[1] - start[1]


def compare(task: Task, names: list[str], rounds: int, timer: Timer) -> dict[str, dict[str, Any]]:
    """The figures of each way by name."""
    answers = {name: WAYS[name](task) for name in names}  # not timed
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            _, seconds, cpu = timer.call(partial(WAYS[name], task))
            times[name].append((seconds, cpu))
    medians = {
        name: [statistics.median(values) for values in zip(*pairs, strict=True)]
        for name, pairs in times.items()
    }
    first = names[0]
    return {
        name: {
            "seconds": round(medians[name][0], 3),
            "cpu_seconds": round(medians[name][1], 3),
            "samples_per_second": round(len(task.queries) / medians[name][0], 2),
            f"times_{first}": round(medians[first][0] / medians[name][0], 2),
            f"times_{first}_by_cpu_seconds": round(medians[first][1] / medians[name][1], 2),
            "rounds": [[round(value, 3) for value in pair] for pair in times[name]],
            "same_answers": sum(a == b for a, b in zip(answers[name], answers[first], strict=True)),
            "distinct_answers": len(set(answers[name])),
        }
        for name in names
    }


def random_clicks(count: int, size: tuple[int, int], seed: int) -> list[tuple[Click, ...]]:
    """Sequences of 1 to MOST_CLICKS clicks, the first of each positive."""
    rng = np.random.default_rng(seed)
    sequences = []
    for number in range(count):
        places = rng.integers(0, size[::-1], (1 + number % MOST_CLICKS, 2))
        signs = [True, *(rng.random(len(places) - 1) < 0.5)]
        sequences.append(
            tuple(Click(float(x), float(y), bool(sign)) for (x, y), sign in zip(places, signs, strict=True))
        )
    return sequences


def compare_formats(
    task: Task, rounds: int, seed: int, timer: Timer, tokenizer: Any = None
) -> dict[str, dict[str, Any]]:
    """Tokens and seconds of the same clicks in each answer format, in turns; `tokenizer` counts tokens, too."""
    from geoclick.vlms import encoding

    height, width = task.images[0].shape[:2]
    sequences = random_clicks(len(task.queries), (height, width), seed)
    answers: dict[str, list[list[int]]] = {}
    figures: dict[str, dict[str, Any]] = {name: {} for name in FORMATS}
    for answer_format in FORMATS:
        frame = task.vlm.frame((height, width), answer_format)
        texts = [frame.encode(clicks) for clicks in sequences]
        if tokenizer is not None:
            # One token more ends the answer.
            counts = [len(ids) + 1 for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
            figures[answer_format]["tokens_an_answer_of_tokenizer"] = round(statistics.fmean(counts), 1)
        chats = [
            prompts.messages(query, answer_format=answer_format, answer=text)
            for query, text in zip(task.queries, texts, strict=True)
        ]
        examples = encoding.encode_examples(task.vlm.processor, chats)
        answers[answer_format] = [example.completion_ids for example in examples]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in FORMATS}
    for turn in range(rounds + 1):
        for name in FORMATS:
            _, seconds, cpu = timer.call(partial(_write_given, task, name, answers[name]))
            if turn:
                times[name].append((seconds, cpu))
    clicks = sum(map(len, sequences))
    return {
        name: figures[name]
        | {
            "tokens_an_answer": round(statistics.fmean(map(len, answers[name])), 1),
            "tokens_a_click": round((sum(map(len, answers[name])) - len(sequences)) / clicks, 1),
            "seconds": round(statistics.median(seconds for seconds, _ in times[name]), 3),
            "cpu_seconds": round(statistics.median(cpu for _, cpu in times[name]), 3),
        }
        for name in FORMATS
    }


def _write_given(task: Task, answer_format: str, answers: list[list[int]]) -> None:
    """Let the backend `local` write given tokens."""
    import torch

    from geoclick.vlms.generation.answers import generate

    def constrain(indices: Any) -> Any:
        def adjust(rows: Any, tokens: Any, scores: torch.Tensor) -> torch.Tensor:
            given = [answers[indices[row]][len(written)] for row, written in zip(rows, tokens, strict=True)]
            places = torch.tensor(given, device=scores.device)[:, None]
            return scores.scatter(1, places, float("inf"))

        return adjust

    generate(
        task.vlm,
        task.images,
        task.queries,
        answer_format=answer_format,
        batch_size=task.batch_size,
        max_new_tokens=max(map(len, answers)),
        constrain=constrain,
    )


def run(options: InferenceOptions) -> None:
    """Measure, and print and write the results."""
    import torch
    from transformers.utils import logging

    from benchmarks import random_models
    from geoclick import devices
    from geoclick.inference.generative.settings import default_format
    from geoclick.vlms.generation.answers import MAX_NEW_TOKENS

    folder = Path(options.output)
    if (folder / "inference.json").exists():
        raise UsageError(f"{folder} holds inference.json; give another --output.")
    if unknown := sorted(set(options.ways) - set(WAYS)):
        raise UsageError(f"Unknown way {unknown[0]}; choose from {', '.join(WAYS)}.")
    logging.set_verbosity_error()
    device = devices.choose(options.device)
    vlm, timer = load(options, device), Timer(device)
    answer_format = options.answer_format or default_format(vlm)
    limit = options.max_new_tokens or MAX_NEW_TOKENS[answer_format]
    left_out = {
        "compiled": device.type != "cuda",  # a graph is of use on a GPU only
        "constrained": find_spec("llguidance") is None,
    }
    names = [name for name in WAYS if name in options.ways or not (options.ways or left_out.get(name))]
    config.write_config(options, folder)
    figures: dict[str, Any] = {
        "model": options.model,
        "parameters": sum(p.numel() for p in vlm.model.parameters()),
        "adapter": options.adapter is not None,
        "precision": str(vlm.model.dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "answer_format": answer_format,
        "samples": options.samples,
        "batch_size": options.batch_size,
        "ways": {},
    }
    for queries in options.queries:
        images, texts = draw(options, queries)
        task = Task(vlm, images, texts, answer_format, limit, options.batch_size)
        figures["ways"][f"{queries} queries an image"] = compare(task, names, options.rounds, timer)
        print(json.dumps(figures["ways"], indent=1), flush=True)
    if options.formats:
        tokenizer = random_models.load_tokenizer(Path(options.tokenizer)) if options.tokenizer else None
        figures["formats"] = compare_formats(task, options.rounds, options.seed, timer, tokenizer)
        print(json.dumps(figures["formats"], indent=1), flush=True)
    files.write_whole(folder / "inference.json", json.dumps(figures, indent=1) + "\n")


main = Command(
    prog="python -m benchmarks.inference",
    options=InferenceOptions,
    run=run,
    description="Compare the speed of ways to generate answers, and of the answer formats.",
    example="python -m benchmarks.inference --output runs/inference --adapter runs/lora",
)


if __name__ == "__main__":
    sys.exit(main())
