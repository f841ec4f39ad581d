"""Stand-ins of vLLM: an engine of a small model, and an HTTP server with the endpoints that TRL's VLLMClient calls.

The server gets the trainer's weights through a queue instead of NCCL; all else is sent over HTTP on 127.0.0.1.
"""

import base64
import io
import json
import queue
import re
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from trl.generation import vllm_client, vllm_generation

from geoclick import vlms
from geoclick.train.options import trl_rules
from geoclick.train.reinforcement import vllm_rollouts
from geoclick.vlms import encoding

TRIES = 50
"""Answers that are sampled until one has the required format."""


class Engine:
    """A model that samples answers as vLLM does, with limits of pixels of its own."""

    def __init__(self, **limits):
        self.vlm = vlms.load("embedded", device="cpu", **limits)
        self.weights = dict(self.vlm.model.named_parameters())
        self.sizes, self.updates, self.calls = [], 0, 0
        self.lock = threading.Lock()

    def load(self, weights):
        """Replace weights, given by name."""
        for name, weight in weights:
            assert self.weights[name].shape == weight.shape
            self.weights[name].data = weight.clone()
        self.updates += 1

    def process(self, image):
        """The vision tower's inputs of an image, and its number of tokens."""
        self.sizes.append(image.size)
        inputs = encoding.process_images(self.vlm.processor, [np.asarray(image)])
        return inputs, int(inputs["image_grid_thw"].prod()) // 4

    def sample(self, token_ids, image, params):
        """`n` answers, each with the logarithms of the probabilities of its tokens."""
        structured = params.get("structured_outputs") or {}
        pattern = structured["regex"] if structured else None
        # Requests come from several threads, and the trainer's random numbers must not change.
        with self.lock, torch.random.fork_rng():
            torch.manual_seed(self.calls)
            self.calls += 1
            return [self._answer(token_ids, image, params, pattern) for _ in range(params["n"])]

    def _answer(self, token_ids, image, params, pattern):
        ids = torch.tensor([token_ids])
        for _ in range(TRIES):
            out = self.vlm.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == self.vlm.processor.image_token_id).long(),
                **image,
                do_sample=True,
                temperature=params["temperature"],
                top_k=params["top_k"] or None,
                max_new_tokens=params["max_tokens"],
                output_scores=True,
                return_dict_in_generate=True,
            )
            answer = out.sequences[0, ids.shape[1] :]
            text = self.vlm.processor.tokenizer.decode(answer, skip_special_tokens=True)
            if pattern is None or re.fullmatch(pattern, text):
                break
        else:
            raise AssertionError(f"no answer of the format {pattern}: {text}")
        scores = torch.cat(out.scores).log_softmax(-1)
        return answer.tolist(), scores[range(len(answer)), answer].tolist()


class Server:
    """The endpoints of TRL's VLLMClient, counted; `weights` is the channel that replaces NCCL."""

    def __init__(self, engine):
        self.engine = engine
        self.weights = queue.Queue()
        self.paths, self.images, self.requests = Counter(), {}, []
        self.broken = ""

    def get(self, path):
        return {
            "/health": {},
            "/v1/models": {"data": [{"id": "stand-in"}]},
            "/get_world_size": {"world_size": 1},
            "/server_info": {
                "vllm_config": {
                    "weight_transfer_config": {"backend": "nccl"},
                    "model_config": {"logprobs_mode": "processed_logprobs"},
                }
            },
        }[path]

    def post(self, path, body):
        if path == "/v1/chat/completions/render":
            [message] = body["messages"]
            [part] = message["content"]
            data = base64.b64decode(part["image_url"]["url"].partition("base64,")[2])
            inputs, tokens = self.engine.process(Image.open(io.BytesIO(data)))
            name = str(hash(data))
            self.images[name] = inputs
            return {
                "features": {
                    "mm_hashes": {"image": [name]},
                    "mm_placeholders": {"image": [{"offset": 4, "length": tokens}]},
                }
            }
        if path == "/inference/v1/generate":
            self.requests.append(body)
            [place] = body["features"]["mm_placeholders"]["image"]
            run = body["token_ids"][place["offset"] : place["offset"] + place["length"]]
            assert set(run) == {self.engine.vlm.processor.image_token_id}
            image = self.images[body["features"]["mm_hashes"]["image"][0]]
            answers = self.engine.sample(body["token_ids"], image, body["sampling_params"])
            return {"choices": [self._choice(ids, logps) for ids, logps in answers]}
        if path == "/update_weights":
            info = body["update_info"]
            received = [self.weights.get(timeout=60) for _ in info["names"]]
            for (name, weight), dtype, shape in zip(
                received, info["dtype_names"], info["shapes"], strict=True
            ):
                assert (str(weight.dtype), list(weight.shape)) == (f"torch.{dtype}", shape), name
            assert [name for name, _ in received] == info["names"]
            self.engine.load(received)
        return {"success": True}

    def _choice(self, ids, logps):
        content = [
            {"token": f"token_id:{token}", "logprob": logp, "top_logprobs": []}
            for token, logp in zip(ids, logps, strict=True)
        ]
        return {"token_ids": ids, "logprobs": {"content": content}}


@contextmanager
def serving(engine):
    """A server on 127.0.0.1: (the server, its address)."""
    server = Server(engine)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, method):
            path = self.path.partition("?")[0]
            server.paths[path] += 1
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or "{}")
            broken = server.broken and server.broken in path
            content = {"error": "the engine is dead"} if broken else method(path, *([body] if length else []))
            data = json.dumps(content).encode()
            self.send_response(400 if broken else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            self._answer(server.get)

        def do_POST(self):
            self._answer(lambda path, body=None: server.post(path, body or {}))

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class Llm:
    """`vllm.LLM` on an engine: prompts have one image token, which it expands."""

    engine: Engine

    def __init__(self, **options):
        self.options = options
        driver = SimpleNamespace(load_weights=self.engine.load)
        runner = SimpleNamespace(model_runner=SimpleNamespace(model=driver))
        self.llm_engine = SimpleNamespace(model_executor=SimpleNamespace(driver_worker=runner))
        self.prompts = []

    def reset_prefix_cache(self):
        pass

    def generate(self, prompts, sampling_params, use_tqdm):
        self.prompts += prompts
        return [self._output(prompt, sampling_params) for prompt in prompts]

    def _output(self, prompt, params):
        image_token = self.engine.vlm.processor.image_token_id
        image, tokens = self.engine.process(prompt["multi_modal_data"]["image"])
        assert prompt["prompt_token_ids"].count(image_token) == 1
        ids = encoding.expand_image(prompt["prompt_token_ids"], image_token, tokens)
        outputs = []
        for answer, logps in self.engine.sample(ids, image, vars(params)):
            of_tokens = [
                {token: SimpleNamespace(rank=1, logprob=logp)}
                for token, logp in zip(answer, logps, strict=True)
            ]
            outputs.append(SimpleNamespace(token_ids=answer, logprobs=of_tokens))
        return SimpleNamespace(prompt_token_ids=ids, outputs=outputs)


def install(monkeypatch, channel=None):
    """Let TRL and GeoClick find vLLM, on the CPU; `channel` takes the weights that are sent to a server."""
    real = trl_rules.find_spec
    monkeypatch.setattr(trl_rules, "find_spec", lambda name: name if name == "vllm" else real(name))
    monkeypatch.setattr(vllm_rollouts, "check", lambda arguments, **_: None)
    for module in (vllm_client, vllm_generation):
        monkeypatch.setattr(module, "is_vllm_available", lambda min_version=None: True)

    def init_communicator(client, device):
        assert client.get_server_info()["weight_transfer_config"]
        client._post(f"{client.base_url}/init_weight_transfer_engine", json={"init_info": {}})

    def send(iterator, trainer_args):
        for name, weight in iterator:
            channel.put((name, weight))

    monkeypatch.setattr(vllm_client.VLLMClient, "init_communicator", init_communicator)
    nccl = SimpleNamespace(trainer_send_weights=send)
    monkeypatch.setattr(vllm_client, "NCCLWeightTransferEngine", nccl, raising=False)
    monkeypatch.setattr(vllm_client, "NCCLTrainerSendWeightsArgs", SimpleNamespace, raising=False)
    monkeypatch.setattr(vllm_generation, "LLM", Llm, raising=False)
    monkeypatch.setattr(vllm_generation, "SamplingParams", SimpleNamespace, raising=False)
    monkeypatch.setattr(vllm_generation, "StructuredOutputsParams", dict, raising=False)
