import numpy as np
import pytest

from skmag._solvers._parameters import check_positive_integer, is_real


@pytest.mark.parametrize("value", [1, 7, np.int32(7), np.uint8(1)])
def test_integers_of_any_kind(value):
    checked = check_positive_integer(value, "size")
    assert checked == value
    assert type(checked) is int


@pytest.mark.parametrize("value", [0, -1, 2.5, 2.0, True, np.True_, "a", None, np.array([1, 2])])
def test_what_is_no_positive_integer_is_named(value):
    with pytest.raises(ValueError, match=r"^size=.* must be a positive integer$"):
        check_positive_integer(value, "size")


def test_real_numbers():
    assert all(is_real(value) for value in (1, 0.5, np.float32(1), np.int8(1), float("nan")))
    assert not any(is_real(value) for value in (True, np.False_, "1", None, 1j))
