import torch

from geoclick.train.loop.source_losses import sums_by_source

LENGTHS, ANSWERS, SOURCES = [5, 4, 6], [2, 1, 3], [1, 0, 1]


def losses():
    """The loss of each answer token of three samples."""
    return [torch.arange(1.0, n + 1) * 10**i for i, n in enumerate(ANSWERS)]


EXPECTED = [[10.0, 603.0, 0.0], [1.0, 5.0, 0.0]]


def test_losses_are_summed_by_source_in_a_padded_batch():
    labels = torch.full((3, 6), -100)
    log_probs = torch.zeros(3, 5)
    for row, (length, answer, values) in enumerate(zip(LENGTHS, ANSWERS, losses(), strict=True)):
        labels[row, length - answer : length] = 7
        log_probs[row, length - answer - 1 : length - 1] = -values
    batch = {"labels": labels, "sources": SOURCES}
    assert sums_by_source(batch, log_probs, 3).tolist() == EXPECTED


def test_losses_are_summed_by_source_in_a_pack():
    bounds = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0).tolist()])
    kept = [
        end - answer - 1 + place
        for end, answer in zip(bounds[1:].tolist(), ANSWERS, strict=True)
        for place in range(answer)
    ]
    batch = {"cu_seq_lens": bounds.int(), "logits_to_keep": torch.tensor(kept), "sources": SOURCES}
    assert sums_by_source(batch, -torch.cat(losses())[None], 3).tolist() == EXPECTED
