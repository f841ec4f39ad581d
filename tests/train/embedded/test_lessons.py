import numpy as np
import pytest
import torch

from geoclick.codec import decode
from geoclick.scenes import SIZE
from geoclick.scenes.kinds import KINDS
from geoclick.scenes.queries import observe
from geoclick.scenes.varied_layout import generate_varied
from geoclick.train.embedded import lessons, scene_cache, vlm_losses
from geoclick.train.embedded.processor import SPECIAL, build_processor
from geoclick.train.embedded.vlm_model import build_model, sinusoidal_positions


@pytest.fixture(scope="module")
def processor():
    return build_processor()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return scene_cache.load(tmp_path_factory.mktemp("cache"), count=12, seed=3)


def lesson_batches(cache, processor):
    return lessons.LessonBatches([cache] * 3, processor, steps=100, questions=12, seed=0)


def test_questions_sharing_an_image_give_the_logits_of_separate_chats(cache, processor):
    torch.manual_seed(0)
    tokenizer = processor.tokenizer
    model = build_model(
        len(tokenizer), {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    ).eval()
    batch = lesson_batches(cache, processor)[70]
    with torch.no_grad():
        shared = model.lm_head(vlm_losses.forward(model, batch).hidden[-1])
    prefix, alone = batch["prefix"].shape[1], 0
    for i in range(len(batch["tokens"])):
        length = int((batch["labels"][i] != -100).nonzero().max()) + 1
        ids = torch.cat([batch["prefix"][i // 6], batch["tokens"][i, :length]])[None]
        picture = batch["pixel_values"].view(2, -1, batch["pixel_values"].shape[-1])[i // 6]
        kinds = (ids == processor.image_token_id).int()
        with torch.no_grad():
            separate = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=picture,
                image_grid_thw=batch["image_grid_thw"][:1],
                mm_token_type_ids=kinds,
            ).logits
        assert torch.allclose(shared[i, :length], separate[0, prefix:], atol=1e-4)
        alone += 1
        other = batch["pixel_values"].view(2, -1, batch["pixel_values"].shape[-1])[1 - i // 6]
        assert not torch.equal(picture, other)
    assert alone == 12


def test_cached_objects_match_the_object_maps_across_chunks(tmp_path):
    count = scene_cache.CHUNK + 3
    cache = scene_cache.load(tmp_path, count=count, seed=3)
    assert len(cache.objects) == len(cache.ids) == count
    for ids, objects in zip(cache.ids, cache.objects, strict=True):
        areas = {int(i): int((ids == i).sum()) for i in np.unique(ids) if i}
        assert {item.fact.index + 1: item.fact.area for item in objects} == areas


def test_cached_scenes_of_version_2_have_their_own_folder_and_all_facts(tmp_path):
    first = scene_cache.load(tmp_path, count=20, seed=3)
    varied = scene_cache.load(tmp_path, count=20, seed=3, version=2)
    assert not np.array_equal(first.images, varied.images)
    for i, objects in enumerate(varied.objects):
        scene = generate_varied((3, 2, i))
        assert [item.fact for item in objects] == observe(scene, varied.ids[i].astype(int))
        assert all(varied.ids[i][item.point[1], item.point[0]] == item.fact.index + 1 for item in objects)
    facts = [item.fact for objects in varied.objects for item in objects]
    assert {fact.feature for fact in facts} >= {"ringed", "hidden", "touching", "faint"}
    assert any(fact.road_gap for fact in facts)


def test_objects_rotate_and_mirror_with_the_image(cache):
    for index, (turns, mirror) in enumerate([(t, m) for t in range(4) for m in (False, True)]):
        ids = np.rot90(cache.ids[index], turns)
        ids = ids[:, ::-1] if mirror else ids
        for item in cache.objects[index]:
            moved = lessons.rotate_and_mirror(item, turns, mirror)
            rows, columns = np.nonzero(ids == item.fact.index + 1)
            assert (moved.fact.x, moved.fact.y) == pytest.approx((columns.mean(), rows.mean()))
            assert ids[moved.point[1], moved.point[0]] == item.fact.index + 1


def test_answers_and_attention_targets_are_on_the_target(cache):
    questions = 0
    for index in range(12):
        lesson = lessons.make_lesson(cache, index, np.random.default_rng(index), "json", 4)
        if lesson is None:
            continue
        for turn, target in zip(lesson.turns, lesson.attention_targets, strict=True):
            assert turn.question.startswith("Point to: ")
            answer = decode(turn.answer, family="qwen3_vl", answer_format="json", image_size=(SIZE, SIZE))
            (click,) = answer.clicks
            side = lessons.PATCH * lessons.MERGE
            row, column = int(click.y // side), int(click.x // side)
            assert target.sum() == pytest.approx(1)
            assert target.reshape(SIZE // side, -1)[row, column] > 0
            questions += 1
    assert questions >= 20


def test_counts_are_right_and_none_for_absent_kinds(cache):
    answers = []
    for index in range(12):
        lesson = lessons.make_lesson(cache, index, np.random.default_rng(index), "counting", 4)
        if lesson is None:
            continue
        for turn, target, point in zip(lesson.turns, lesson.attention_targets, lesson.points, strict=True):
            query = turn.question.removeprefix("How many: ")
            facts = [item.fact for item in cache.objects[index]]
            count = sum(query in (fact.kind, f"{fact.color} {fact.kind}") for fact in facts)
            assert turn.answer == (str(count) if count else "none")
            assert target.sum() == pytest.approx(float(count > 0))
            assert np.isnan(point).all()
            answers.append(turn.answer)
    assert {"none", "1"} < set(answers)


def test_share_of_questions_by_purpose(cache):
    questions = []
    for index in range(12):
        lesson = lessons.make_lesson(
            cache, index, np.random.default_rng(index), "compact", 20, reasoning=0.25
        )
        questions += [turn.question for turn in lesson.turns] if lesson else []
    purposes = [purpose for kind in KINDS.values() for purpose in kind.purposes]
    share = np.mean([any(purpose in question for purpose in purposes) for question in questions])
    assert 0.15 < share < 0.35


def test_dense_labels_are_those_of_the_objects(cache):
    lesson = lessons.make_lesson(cache, 0, np.random.default_rng(0), "compact", 2)
    kinds = {item.fact.kind for item in cache.objects[0]}
    labeled = {kind for kind, i in lessons.KIND_INDEX.items() if (lesson.kinds == i).any()}
    assert labeled
    assert labeled <= kinds
    assert np.array_equal(np.isnan(lesson.offsets[..., 0]), lesson.kinds == 0)
    assert np.array_equal(lesson.colors == -1, lesson.kinds == 0)


def test_attention_loss_is_lowest_for_attention_on_the_target(cache, processor):
    batch = lesson_batches(cache, processor)[70]
    targets = batch["attention_targets"]
    questions, length = batch["tokens"].shape
    prefix = batch["prefix"].shape[1]
    right = torch.zeros(questions, 6, length, prefix + length)
    right[:, :, :, 4 : 4 + 64] = targets[:, None, None]
    even = torch.full_like(right, 1 / (prefix + length))
    losses = [float(vlm_losses.attention_loss(batch, [attention] * 5)) for attention in (right, even)]
    entropy = -(targets * targets.clamp_min(1e-6).log()).sum(1)
    assert losses[0] == pytest.approx(
        float(
            (entropy[:, None] * (batch["labels"][:, 1:] != -100)).sum()
            / (batch["labels"][:, 1:] != -100).sum()
        ),
        rel=1e-3,
    )
    assert losses[0] < losses[1] - 1


def test_initial_positions_are_distinct():
    table = sinusoidal_positions(16, 128)
    assert table.shape == (256, 128)
    assert table.abs().max() <= 0.5
    assert torch.pdist(table).min() > 0.1
