import numpy as np
import pytest
import torch

from geoclick.codec import decode
from geoclick.scenes import SIZE
from geoclick.scenes.kinds import KINDS
from geoclick.train.embedded import lessons, scene_cache
from geoclick.train.embedded.processor import SPECIAL, processor
from geoclick.train.embedded.vlm import build, waves


@pytest.fixture(scope="module")
def words():
    return processor()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return scene_cache.load(tmp_path_factory.mktemp("cache"), count=12, seed=3)


def make_lessons(cache, words, **changes):
    given = {"steps": 100, "questions": 12, "seed": 0} | changes
    return lessons.Lessons([cache] * 3, words, **given)


def test_a_question_on_the_shared_image_is_the_chat_that_it_is_alone(cache, words):
    torch.manual_seed(0)
    tokenizer = words.tokenizer
    model = build(len(tokenizer), {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}).eval()
    batch = make_lessons(cache, words)[70]
    with torch.no_grad():
        shared = model.lm_head(lessons.answer_states(model, batch).hidden[-1])
    prefix, alone = batch["prefix"].shape[1], 0
    for i in range(len(batch["tokens"])):
        length = int((batch["labels"][i] != -100).nonzero().max()) + 1
        ids = torch.cat([batch["prefix"][i // 6], batch["tokens"][i, :length]])[None]
        picture = batch["pixel_values"].view(2, -1, batch["pixel_values"].shape[-1])[i // 6]
        kinds = (ids == words.image_token_id).int()
        with torch.no_grad():
            whole = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=picture,
                image_grid_thw=batch["image_grid_thw"][:1],
                mm_token_type_ids=kinds,
            ).logits
        assert torch.allclose(shared[i, :length], whole[0, prefix:], atol=1e-4)
        alone += 1
        other = batch["pixel_values"].view(2, -1, batch["pixel_values"].shape[-1])[1 - i // 6]
        assert not torch.equal(picture, other)
    assert alone == 12


def test_the_index_of_a_cache_is_that_of_its_pictures_across_chunks(tmp_path):
    count = scene_cache.CHUNK + 3
    drawn = scene_cache.load(tmp_path, count=count, seed=3)
    assert len(drawn.seen) == len(drawn.ids) == count
    for ids, seen in zip(drawn.ids, drawn.seen, strict=True):
        shown = {int(i): int((ids == i).sum()) for i in np.unique(ids) if i}
        assert {item.fact.index + 1: item.fact.area for item in seen} == shown


def test_what_is_seen_turns_with_the_picture(cache):
    for index, (turns, mirror) in enumerate([(t, m) for t in range(4) for m in (False, True)]):
        ids = np.rot90(cache.ids[index], turns)
        ids = ids[:, ::-1] if mirror else ids
        for item in cache.seen[index]:
            moved = lessons.turned(item, turns, mirror)
            rows, columns = np.nonzero(ids == item.fact.index + 1)
            assert (moved.fact.x, moved.fact.y) == pytest.approx((columns.mean(), rows.mean()))
            assert ids[moved.point[1], moved.point[0]] == item.fact.index + 1


def test_every_answer_and_every_look_is_on_the_target(cache):
    asked = 0
    for index in range(12):
        made = lessons.lesson(cache, index, np.random.default_rng(index), "json", 4)
        if made is None:
            continue
        for (question, answer), look in zip(made.turns, made.looks, strict=True):
            assert question.startswith("Point to: ")
            (click,) = decode(answer, family="qwen3_vl", answer_format="json", image_size=(SIZE, SIZE)).clicks
            side = lessons.PATCH * lessons.MERGE
            row, column = int(click.y // side), int(click.x // side)
            assert look.sum() == pytest.approx(1)
            assert look.reshape(SIZE // side, -1)[row, column] > 0
            asked += 1
    assert asked >= 20


def test_numbers_are_right_and_absent_kinds_are_none(cache):
    answers = []
    for index in range(12):
        made = lessons.lesson(cache, index, np.random.default_rng(index), "counting", 4)
        if made is None:
            continue
        for (question, answer), look, point in zip(made.turns, made.looks, made.points, strict=True):
            asked = question.removeprefix("How many: ")
            facts = [item.fact for item in cache.seen[index]]
            count = sum(asked in (fact.kind, f"{fact.color} {fact.kind}") for fact in facts)
            assert answer == (str(count) if count else "none")
            assert look.sum() == pytest.approx(float(count > 0))
            assert np.isnan(point).all()
            answers.append(answer)
    assert {"none", "1"} < set(answers)


def test_purposes_are_asked_for_in_their_share(cache):
    asked = []
    for index in range(12):
        made = lessons.lesson(cache, index, np.random.default_rng(index), "compact", 20, reasoning=0.25)
        asked += [question for question, _ in made.turns] if made else []
    purposes = [purpose for kind in KINDS.values() for purpose in kind.purposes]
    share = np.mean([any(purpose in question for purpose in purposes) for question in asked])
    assert 0.15 < share < 0.35


def test_dense_labels_are_those_of_the_objects(cache):
    made = lessons.lesson(cache, 0, np.random.default_rng(0), "compact", 2)
    kinds = {item.fact.kind for item in cache.seen[0]}
    shown = {kind for kind, i in lessons.KIND_INDEX.items() if (made.kinds == i).any()}
    assert shown
    assert shown <= kinds
    assert np.array_equal(np.isnan(made.offsets[..., 0]), made.kinds == 0)
    assert np.array_equal(made.colors == -1, made.kinds == 0)


def test_the_look_loss_is_least_where_attention_is_on_the_target(cache, words):
    batch = make_lessons(cache, words)[70]
    questions, length = batch["tokens"].shape
    prefix = batch["prefix"].shape[1]
    right = torch.zeros(questions, 6, length, prefix + length)
    right[:, :, :, 4 : 4 + 64] = batch["looks"][:, None, None]
    even = torch.full_like(right, 1 / (prefix + length))
    losses = [float(lessons.look_loss(batch, [attention] * 5)) for attention in (right, even)]
    entropy = -(batch["looks"] * batch["looks"].clamp_min(1e-6).log()).sum(1)
    assert losses[0] == pytest.approx(
        float(
            (entropy[:, None] * (batch["labels"][:, 1:] != -100)).sum()
            / (batch["labels"][:, 1:] != -100).sum()
        ),
        rel=1e-3,
    )
    assert losses[0] < losses[1] - 1


def test_positions_start_out_told_apart():
    table = waves(16, 128)
    assert table.shape == (256, 128)
    assert table.abs().max() <= 0.5
    assert torch.pdist(table).min() > 0.1
