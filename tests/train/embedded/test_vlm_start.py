"""Starting the embedded VLM's training from weights, and the figures of lists."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import geoclick
from geoclick.clicks import Click
from geoclick.errors import GeoClickError, UsageError
from geoclick.train.embedded import processor as processors
from geoclick.train.embedded import scene_cache, vlm, vlm_evaluation
from geoclick.train.embedded.vlm_options import EmbeddedVlmOptions
from geoclick.train.embedded.vlm_trainer import VlmTrainer

PUBLISHED = Path(geoclick.__file__).parent / "embedded" / "vlm"


@pytest.fixture(scope="module")
def processor():
    return processors.build_processor()


def trainer(output, start, processor):
    output.mkdir()
    return VlmTrainer(EmbeddedVlmOptions(output=str(output), start_from=str(start), steps=5), processor)


def test_training_starts_from_the_published_weights(processor, tmp_path):
    started = trainer(tmp_path / "run", PUBLISHED, processor)
    published = load_file(PUBLISHED / "model.safetensors")
    state = started.model.state_dict()
    assert len(published) >= 130
    assert all(torch.equal(state[name], weights.float()) for name, weights in published.items())
    assert all(parameter.dtype == torch.float32 for parameter in started.parameters)


def test_a_folder_without_a_model_is_refused(processor, tmp_path):
    with pytest.raises(UsageError, match="is not the folder of an embedded VLM"):
        trainer(tmp_path / "run", tmp_path, processor)


def test_another_tokenizer_is_refused(processor, tmp_path):
    other = shutil.copytree(PUBLISHED, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UsageError, match="has another tokenizer"):
        trainer(tmp_path / "run", other, processor)


def test_another_architecture_is_refused(processor, tmp_path):
    other = shutil.copytree(PUBLISHED, tmp_path / "other")
    text = (other / "config.json").read_text()
    assert '"num_hidden_layers": 5' in text
    (other / "config.json").write_text(text.replace('"num_hidden_layers": 5', '"num_hidden_layers": 4'))
    with pytest.raises(UsageError, match="has another architecture"):
        trainer(tmp_path / "run", other, processor)


def test_weights_that_are_not_finite_are_refused(processor, tmp_path):
    other = shutil.copytree(PUBLISHED, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.language_model.norm.weight"][0] = torch.nan
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(GeoClickError, match=r"not finite \(model.language_model.norm.weight\)"):
        trainer(tmp_path / "run", other, processor)


def test_a_resumed_run_takes_the_weights_of_its_state(processor, tmp_path):
    first = trainer(tmp_path / "run", PUBLISHED, processor)
    first.step = 3
    first.save()
    options = EmbeddedVlmOptions(output=str(tmp_path / "run"), start_from=str(tmp_path / "gone"), steps=5)
    resumed = VlmTrainer(options, processor)
    assert resumed.step == 3
    torch.testing.assert_close(resumed.model.state_dict(), first.model.state_dict(), rtol=0, atol=0)


def test_figures_of_lists(processor, tmp_path, monkeypatch):
    cache = scene_cache.load(tmp_path, count=12, seed=3, version=2)
    points = [{item.fact.index: item.point for item in objects} for objects in cache.objects]

    def figures(answer):
        def answers(_model, _processor, _cache, questions, answer_format, tokens):
            assert answer_format == "compact"
            assert all(len(query.targets) > 1 for _, query in questions)
            return [
                tuple(Click(*point) for point in answer(i, [points[i][target] for target in query.targets]))
                for i, query in questions
            ]

        monkeypatch.setattr(vlm_evaluation, "_answers", answers)
        return tuple(vlm_evaluation.list_figures(None, processor, cache, 12).values())

    assert figures(lambda i, clicks: clicks) == (1.0, 1.0, 1.0)
    precision, recall, same = figures(lambda i, clicks: clicks * 2)
    assert (precision, recall, same) == (0.5, 1.0, 0.0)
    precision, recall, same = figures(lambda i, clicks: clicks[:1])
    assert (precision, same) == (1.0, 0.0)
    assert 0.1 < recall <= 0.5
    ground = [tuple(int(x) for x in np.argwhere(ids == 0)[0][::-1]) for ids in cache.ids]
    assert figures(lambda i, clicks: [ground[i]] * len(clicks)) == (0.0, 0.0, 1.0)
    assert figures(lambda i, clicks: []) == (0.0, 0.0, 0.0)


@pytest.mark.slow
def test_a_run_from_weights_logs_the_figures_of_lists(tmp_path):
    arguments = ["--steps", "2", "--questions", "12", "--scenes", "24", "--varied-scenes", "24"]
    arguments += ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "run"), "--log-every", "2"]
    assert vlm.main([*arguments, "--varied-share", "0.5", "--start-from", str(PUBLISHED)]) == 0
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert '"list_precision"' in log
    assert '"pointing_accuracy": 0.9' in log
