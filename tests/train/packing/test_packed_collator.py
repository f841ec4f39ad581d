import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoclick import vlms
from geoclick.train.data import rows
from geoclick.train.data.collator import ClickCollator
from geoclick.train.packing.packed_collator import PackedCollator, with_positions
from tests import tiny
from tests.train.texts import with_texts


@pytest.fixture(scope="module", params=tiny.FOLDERS)
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    vlm = vlms.load(str(tiny.FOLDERS[request.param](folder / "vlm")), device="cpu")
    data = tiny.click_store(folder, rows=6)
    dataset, _ = rows.build(*data, vlm, answer_format="compact", max_clicks=6, min_iou=0.0)
    return vlm, [dataset[i] for i in (0, 3, 1, 4, 2)]


@given(
    first=st.integers(0, 12),
    shown=st.lists(
        st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 12)), min_size=1, max_size=3
    ),
)
def test_positions_are_those_of_the_model_for_any_images(case, first, shown):
    """Each image stands before a text: the model tells neighboring images apart by what is between them."""
    vlm, _ = case
    model, image = vlm.model.model, vlm.processor.image_token_id
    ids = [20] * first + [token for _, _, text in shown for token in [image] + [20] * text]
    grids = torch.tensor([(1, 2 * height, 2 * width) for height, width, _ in shown])
    tokens, places = with_positions(ids, grids, image_token=image, merge=2)
    kinds = (tokens == image).long()[None]
    expected, _ = model.get_rope_index(tokens[None], image_grid_thw=grids, mm_token_type_ids=kinds)
    assert torch.equal(places[1:], expected[:, 0])
    assert torch.equal(places[0], torch.arange(len(tokens)))


def test_a_pack_is_its_rows_one_after_another(case):
    vlm, pack = case
    batch = PackedCollator(vlm.processor)([pack])
    alone = [ClickCollator(vlm.processor)([row]) for row in pack]
    for key in ("input_ids", "labels"):
        assert torch.equal(batch[key], torch.cat([one[key] for one in alone], dim=1)), key
    assert batch["cu_seq_lens"].diff().tolist() == [one["input_ids"].shape[1] for one in alone]
    assert batch["sample_lengths"] == batch["cu_seq_lens"].diff().tolist()
    assert (batch["position_ids"][:, 0, batch["cu_seq_lens"][:-1].long()] == 0).all()


def test_kept_positions_are_those_before_a_label(case):
    vlm, pack = case
    batch = PackedCollator(vlm.processor)([pack])
    answers = "".join(with_texts(vlm, row)["completion"] for row in pack)
    assert vlm.processor.tokenizer.decode(batch["shift_labels"][0]) == answers
    assert torch.equal(batch["input_ids"][0, batch["logits_to_keep"] + 1], batch["shift_labels"][0])
    assert (batch["labels"][0, batch["cu_seq_lens"][:-1].long()] == -100).all()


def test_each_image_is_processed_once_and_shown_at_each_of_its_places(case):
    vlm, pack = case
    batch = PackedCollator(vlm.processor)([pack])
    paths = [row["images"][0] for row in pack]
    distinct = list(dict.fromkeys(paths))
    assert len(batch["image_grid_thw"]) == len(distinct) == 3
    assert [distinct[i] for i in batch["image_index"]] == paths
    assert len(batch["pixel_values"]) == batch["image_grid_thw"].prod(1).sum()


def test_a_row_may_show_several_images(case):
    vlm, pack = case
    one, two = pack[0], pack[1]
    both = {
        "images": one["images"] + two["images"],
        "size": one["size"] + two["size"],
        "prompt_ids": one["prompt_ids"] + two["prompt_ids"],
        "completion_ids": two["completion_ids"],
    }
    batch = PackedCollator(vlm.processor)([[both, one]])
    assert batch["image_index"] == [0, 1, 0]
    seen = (batch["input_ids"] == vlm.processor.image_token_id).sum()
    grids = batch["image_grid_thw"][batch["image_index"]]
    assert seen == grids.prod(1).sum() // vlm.processor.image_processor.merge_size**2
