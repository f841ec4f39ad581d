import numpy as np
import torch

from geoclick.inference.backends.sampling import Sampling, seeds_of

SCORES = torch.tensor([1.0, 0.0, -1.0, -torch.inf])


def first_tokens(seeds, temperature=1.0):
    scores = SCORES.expand(len(seeds), -1).clone()
    rows = list(range(len(seeds)))
    return Sampling(seeds, temperature)(rows, [[] for _ in rows], scores).argmax(dim=1)


def test_tokens_have_the_frequencies_of_their_probabilities():
    for temperature in (0.5, 1.0, 2.0):
        count = 4_000
        tokens = first_tokens(range(count), temperature)
        frequencies = torch.bincount(tokens, minlength=4) / count
        expected = (SCORES / temperature).softmax(dim=0)
        # Four standard deviations.
        assert (frequencies - expected).abs().max() < 4 * (0.25 / count) ** 0.5
        assert frequencies[3] == 0


def test_an_answer_does_not_depend_on_the_others():
    together = Sampling([5, 6, 7], 1.0)
    alone = Sampling([6], 1.0)
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    for rows in ([0, 1, 2], [1, 2], [1]):
        own = rows.index(1)
        both = together(rows, [[] for _ in rows], scores[rows].clone())
        one = alone([0], [[]], scores[[1]].clone())
        assert torch.equal(both[own], one[0])


def test_a_seed_depends_on_seed_image_query_and_number():
    images = [np.zeros((4, 6, 3), np.uint8), np.zeros((6, 4, 3), np.uint8), np.ones((4, 6, 3), np.uint8)]
    given = [(0, image, query, number) for image in images for query in ("a", "b") for number in (0, 1)]
    given += [(1, *rest) for _, *rest in given]
    seeds = [seeds_of(seed, [image], [query], [number])[0] for seed, image, query, number in given]
    assert len(set(seeds)) == len(given)
    of_seed = [rest for seed, *rest in given if seed == 0]
    assert seeds_of(0, *zip(*of_seed, strict=True)) == seeds[: len(of_seed)]
    assert seeds_of(0, [images[0].copy()], ["a"], [0]) == seeds[:1]
    assert seeds_of(0, [np.zeros((4, 12, 3), np.uint8)[:, ::2]], ["a"], [0]) == seeds[:1]
