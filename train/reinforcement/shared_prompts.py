"""Completions of one prompt behind one copy of it: the model reads a prompt once, however many answers it gave.

A row is the prompt without its last token, then a segment for each completion: the last prompt token again, which
foretells the first token of the completion, and the completion. Positions go on from the prompt's in every segment,
and a segment sees the prompt and itself. The log-probabilities are those of the completions one by one; the work on
prompts, most of which are visual tokens, is that of one a group.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

IGNORED = -100


@dataclass(frozen=True)
class Shared:
    """A batch of U rows of L tokens that holds N completions of up to C tokens.

    Attributes:
        owners: the distinct questions, one a row.
        input_ids: [U, L].
        visible: which token (last axis) each token sees, bool [U, 1, L, L].
        position_ids: rotary positions, [3, U, L].
        labels: the completions' tokens, -100 elsewhere, [U, L].
        row: of each completion, [N].
        columns: of the log-probabilities of each completion's tokens when the first column is that of the second token,
            [N, C].
    """

    owners: list[int]
    input_ids: torch.Tensor
    visible: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    row: torch.Tensor
    columns: torch.Tensor

    def of_completions(self, values: torch.Tensor) -> torch.Tensor:
        """Values [U, L - 1] of the tokens that follow, as [N, C]."""
        return values[self.row[:, None], self.columns]


def first_of_each(owners: Sequence[int]) -> tuple[list[int], list[int]]:
    """The index at which each distinct owner first occurs, and for every index the place of its owner among those."""
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
) -> Shared:
    """Put completions of the same question behind one prompt.

    Args:
        owners: the question of each sequence; equal questions have equal prompts.
        input_ids: sequences, prompts padded on the left and completions on the right, [N, P + C].
        mask: 1 where there is a token, [N, P + C].
        completion: C.
        positions_of: questions, their prompts [U, P] and the mask of these to rotary positions [3, U, P].
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
    row, slot = (torch.tensor(found, device=device) for found in (places, slots))
    starts = kept + slot * segment
    columns = starts[:, None] + torch.arange(completion, device=device)
    whole = starts[:, None] + torch.arange(segment, device=device)
    ids[row[:, None], whole] = input_ids[:, kept:]
    present[row[:, None], whole] = mask[:, kept:].bool()
    labels[row[:, None], columns + 1] = input_ids[:, prompt:].masked_fill(mask[:, prompt:] == 0, IGNORED)

    place = torch.arange(length, device=device)
    part = torch.where(place < kept, -1, (place - kept) // segment)
    sees = (place[:, None] >= place) & ((part == -1) | (part[:, None] == part))
    # A padding token that sees nothing would be no number.
    alone = torch.eye(length, dtype=torch.bool, device=device)
    of_prompt = positions_of(distinct, input_ids[firsts, :prompt], mask[firsts, :prompt])
    after = of_prompt[:, :, -1:] + (place[kept:] - kept) % segment
    return Shared(
        owners=distinct,
        input_ids=ids,
        visible=((sees & present[:, None, :]) | alone)[:, None],
        position_ids=torch.cat([of_prompt[:, :, :kept], after], dim=2),
        labels=labels,
        row=row,
        columns=columns,
    )
