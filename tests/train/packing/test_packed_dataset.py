import pytest
from accelerate import Accelerator, skip_first_batches
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from geoclick import vlms
from geoclick.train.augmentation import augmented_dataset
from geoclick.train.data import rows
from geoclick.train.data.collator import ClickCollator
from geoclick.train.packing import packed_dataset
from tests import tiny


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    vlm = vlms.load(str(tiny.qwen3_vl_folder(folder / "vlm")), device="cpu")
    data = tiny.click_store(folder, rows=20)
    dataset, _ = rows.build(*data, vlm, answer_format="compact", max_clicks=6, min_iou=0.0)
    return vlm, dataset


def build(case, processes=1, share_images=True):
    vlm, dataset = case
    budget = 3 * max(dataset.token_lengths(vlm.processor))
    return packed_dataset.build(
        dataset, vlm.processor, budget=budget, seed=0, per_step=processes, share_images=share_images
    )


def loader(packed, processes=1, index=0):
    """The loader that accelerate makes for one of several processes, as the trainer uses it."""
    plain = DataLoader(
        packed,
        batch_size=1,
        sampler=augmented_dataset.EpochSampler(packed),
        collate_fn=lambda batch: batch[0],
    )
    Accelerator()
    return prepare_data_loader(plain, num_processes=processes, process_index=index)


def prompts(batches):
    return [[row["prompt_ids"] for row in batch] for batch in batches]


def test_lengths_are_those_of_the_tokens_without_opening_an_image(case):
    vlm, dataset = case
    found = dataset.token_lengths(vlm.processor)
    made = ClickCollator(vlm.processor)([dataset[i] for i in range(len(dataset))])["attention_mask"].sum(1)
    assert found == made.tolist()
    assert len(set(found)) > 3


def test_the_number_of_packs_of_a_large_plan_is_remembered(case, monkeypatch, tmp_path):
    expected = build(case)
    monkeypatch.setenv("GEOCLICK_CACHE", str(tmp_path))
    monkeypatch.setattr(packed_dataset, "LARGE", 1)
    composed, in_processes = [], packed_dataset.in_processes
    monkeypatch.setattr(
        packed_dataset,
        "in_processes",
        lambda work, items: composed.extend(items) or in_processes(work, items),
    )
    for compositions in (4, 0):
        composed.clear()
        found = build(case)
        assert len(composed) == compositions
        assert len(found) == len(expected)
    assert found.packs() == expected.packs()


def test_images_are_kept_together_only_where_asked(case):
    together, apart = build(case), build(case, share_images=False)
    images = [together.rows.images(index)[0] for index in range(len(together.rows))]

    def shared(packed):
        return sum(len(pack) - len({images[i][0] for i in pack}) for pack in packed.plan.packs(0))

    assert shared(together) > shared(apart)


@pytest.mark.parametrize("processes", [1, 3])
def test_processes_share_each_epoch_without_loss_and_resume_where_they_stopped(case, processes):
    packed = build(case, processes)
    for epoch in (0, 1):
        expected = prompts([packed[pack] for pack in packed.plan.packs(epoch)])
        found = []
        for index in range(processes):
            whole = loader(packed, processes, index)
            whole.set_epoch(epoch)
            found.append(prompts(whole))
            packed.set_epoch(0)
            resumed = skip_first_batches(loader(packed, processes, index), 1)
            resumed.set_epoch(epoch)
            assert prompts(resumed) == found[-1][1:]
        turns = [batch for turn in zip(*found, strict=True) for batch in turn]
        assert turns == expected
        texts = sorted(prompt for batch in turns for prompt in batch)
        assert texts == sorted(row["prompt_ids"] for row in packed.rows)
