from datasets import Dataset

from geoclick.train.data.length_groups import LengthGroups

LENGTHS = [10 * (n % 37) for n in range(400)]


def groups(seed=0, epoch=0):
    dataset = LengthGroups(Dataset.from_dict({"n": LENGTHS}), LENGTHS, seed=seed, per_step=4)
    dataset.set_epoch(epoch)
    return dataset.keys()


def test_every_epoch_has_every_row_in_an_order_of_its_own():
    orders = [groups(), groups(epoch=1), groups(seed=1)]
    assert all(sorted(order) == list(range(len(LENGTHS))) for order in orders)
    assert len(set(map(tuple, orders))) == 3
    assert groups() == orders[0]


def test_the_rows_of_a_step_are_of_similar_length():
    def spread(order):
        steps = [[LENGTHS[index] for index in order[start : start + 4]] for start in range(0, len(order), 4)]
        return sum(max(step) - min(step) for step in steps)

    assert spread(groups()) < spread(range(len(LENGTHS))) / 2
