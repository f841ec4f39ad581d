from geoclick.clicks import Click


def test_a_click_is_positive_unless_said_otherwise():
    assert Click(3, 4).positive
    assert Click(3, 4, False) != Click(3, 4)


def test_x_comes_first_and_clicks_unpack():
    x, y, positive = Click(x=7, y=2, positive=False)
    assert (x, y, positive) == (7, 2, False)


def test_clicks_can_be_counted_in_sets():
    assert len({Click(1, 2), Click(1.0, 2.0), Click(1, 2, False)}) == 2
