"""All completions of a prompt after one copy of it, so that the model processes each prompt once.

A row is the prompt without its last token, then a segment for each completion: the last prompt token again, which
predicts the first token of the completion, and the completion. Positions continue from the prompt's in every segment,
and a segment attends to the prompt and to itself. The log-probabilities are those of separate completions; the prompt,
which is mostly visual tokens, is computed once per group.

Linear attention passes a state from token to token, so that a segment would see those before it: such models get a row
for each completion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

IGNORED = -100


@dataclass(frozen=True)
class SharedBatch:
    """A batch of U rows of L tokens that holds N completions of up to C tokens.

    Attributes:
        owners: the distinct samples, one for each row.
        input_ids: [U, L].
        visible: the tokens (last axis) that each token attends to, bool [U, 1, L, L].
        position_ids: rotary positions, [3, U, L].
        labels: the completions' tokens, -100 elsewhere, [U, L].
        row: of each completion, [N].
        columns: of the log-probabilities of each completion's tokens, [N, C]; column 0 belongs to the second token.
    """

    owners: list[int]
    input_ids: torch.Tensor
    visible: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    row: torch.Tensor
    columns: torch.Tensor

    def of_completions(self, values: torch.Tensor) -> torch.Tensor:
        """Values [U, L - 1] of next tokens, by completion: [N, C]."""
        return values[self.row[:, None], self.columns]


def first_of_each(owners: Sequence[int]) -> tuple[list[int], list[int]]:
    """The index of the first occurrence of each distinct owner, and the number of every index's owner among those."""
    places: dict[int, int] = {}
    for owner in owners:
        places.setdefault(owner, len(places))
    return [list(owners).index(owner) for owner in places], [places[owner] for owner in owners]


def share(
    owners: Sequence[int],
    input_ids: torch.Tensor,
    mask: torch.Tensor,
    completion: int,
    positions_of: Callable[[list[int], torch.Tensor, torch.Tensor], torch.Tensor],
) -> SharedBatch:
    """Put the completions of a sample after one copy of its prompt.

    Args:
        owners: the sample of each sequence; equal samples have equal prompts.
        input_ids: sequences, prompts padded on the left and completions on the right, [N, P + C].
        mask: 1 where there is a token, [N, P + C].
        completion: C.
        positions_of: maps samples, their prompts [U, P] and the mask of these to rotary positions [3, U, P].
    """
    device, prompt = input_ids.device, input_ids.shape[1] - completion
    firsts, places = first_of_each(owners)
    distinct = [owners[i] for i in firsts]
    slots, count = [], [0] * len(firsts)
    for place in places:
        slots.append(count[place])
        count[place] += 1
    segment, kept = completion + 1, prompt - 1
    rows, length = len(firsts), kept + max(count) * segment
    ids = input_ids.new_zeros(rows, length)
    present = torch.zeros(rows, length, dtype=torch.bool, device=device)
    labels = input_ids.new_full((rows, length), IGNORED)
    ids[:, :kept], present[:, :kept] = input_ids[firsts, :kept], mask[firsts, :kept].bool()
    row, slot = (torch.tensor(numbers, device=device) for numbers in (places, slots))
    starts = kept + slot * segment
    columns = starts[:, None] + torch.arange(completion, device=device)
    columns_of_segment = starts[:, None] + torch.arange(segment, device=device)
    ids[row[:, None], columns_of_segment] = input_ids[:, kept:]
    present[row[:, None], columns_of_segment] = mask[:, kept:].bool()
    labels[row[:, None], columns + 1] = input_ids[:, prompt:].masked_fill(mask[:, prompt:] == 0, IGNORED)

    position = torch.arange(length, device=device)
    part = torch.where(position < kept, -1, (position - kept) // segment)
    attends = (position[:, None] >= position) & ((part == -1) | (part[:, None] == part))
    # A padding token that attends to nothing would give NaN.
    itself = torch.eye(length, dtype=torch.bool, device=device)
    of_prompt = positions_of(distinct, input_ids[firsts, :prompt], mask[firsts, :prompt])
    after = of_prompt[:, :, -1:] + (position[kept:] - kept) % segment
    return SharedBatch(
        owners=distinct,
        input_ids=ids,
        visible=((attends & present[:, None, :]) | itself)[:, None],
        position_ids=torch.cat([of_prompt[:, :, :kept], after], dim=2),
        labels=labels,
        row=row,
        columns=columns,
    )


def separate(
    owners: Sequence[int],
    input_ids: torch.Tensor,
    mask: torch.Tensor,
    completion: int,
    positions_of: Callable[[list[int], torch.Tensor, torch.Tensor], torch.Tensor],
) -> SharedBatch:
    """A row for each completion, with its own prompt; arguments as in `share`.

    `visible` is the mask of the tokens, [N, P + C].
    """
    count, length = input_ids.shape
    prompt = length - completion
    of_prompt = positions_of(list(owners), input_ids[:, :prompt], mask[:, :prompt])
    steps = torch.arange(completion, device=input_ids.device)
    labels = torch.full_like(input_ids, IGNORED)
    labels[:, prompt:] = input_ids[:, prompt:].masked_fill(mask[:, prompt:] == 0, IGNORED)
    return SharedBatch(
        owners=list(owners),
        input_ids=input_ids,
        visible=mask,
        position_ids=torch.cat([of_prompt, of_prompt[:, :, -1:] + 1 + steps], dim=2),
        labels=labels,
        row=torch.arange(count, device=input_ids.device),
        columns=(prompt - 1 + steps).expand(count, -1),
    )
