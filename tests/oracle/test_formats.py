"""Number formats: against NumPy's own, and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.oracle import FORMATS, Rounding

FLOATS = st.floats(width=64) | st.floats(-1e5, 1e5) | st.floats(-1e-4, 1e-4)


@pytest.mark.parametrize(("name", "dtype"), [("f16", np.float16), ("f32", np.float32)])
@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_rounding_is_that_of_numpy(name, dtype, numbers):
    with np.errstate(all="ignore"):
        expected = np.array(numbers).astype(dtype).astype(np.float64)
    got = FORMATS[name].rounded(numbers)
    np.testing.assert_array_equal(got, expected)
    assert np.array_equal(np.signbit(got), np.signbit(expected))


@pytest.mark.parametrize("name", FORMATS)
@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_the_error_is_a_bound_and_the_rounding_a_projection(name, numbers):
    format_ = FORMATS[name]
    x = np.array([v for v in numbers if abs(v) <= format_.largest])
    y = format_.rounded(x)
    assert np.all(np.abs(y - x) <= format_.error(x))
    np.testing.assert_array_equal(format_.rounded(y), y)


def test_by_hand():
    bf16, e4m3, e5m2, tf32 = (FORMATS[name] for name in ("bf16", "e4m3", "e5m2", "tf32"))
    # eight bits: 1 + 1/128 is there, 1 + 1/256 is a tie and goes to the even 1
    assert bf16.rounded([1 + 2**-7, 1 + 2**-8, 1 + 3 * 2**-8]).tolist() == [1 + 2**-7, 1, 1 + 2**-6]
    assert bf16.rounded(3.4e38) == np.inf
    assert e4m3.rounded([448, 460, 17, 0.001]).tolist() == [448, 448, 16, 2**-9]
    assert np.isnan(e4m3.rounded([480.1, -500])).all()
    assert e5m2.rounded([57344, 60000, 62000]).tolist() == [57344, 57344, np.inf]
    assert tf32.rounded(1 + 2**-10) == 1 + 2**-10
    assert tf32.rounded(1 + 2**-12) == 1
    assert [f.smallest for f in (FORMATS["f16"], e4m3)] == [2**-24, 2**-9]
    assert FORMATS["f16"].error([0.0, 1.0, np.inf, 1e-7]).tolist() == [0, 2**-11, 0, 2**-25]


def test_models_that_are_not_possible():
    for arguments, message in (
        ({"io": "f8"}, "io='f8': wanted f64, f32, tf32"),
        ({"accumulate": ""}, "accumulate=''"),
        ({"stores": {"weights": "half"}}, r"stores\['weights'\]='half'"),
        ({"bound": "sure"}, "bound='sure': wanted 'prob' or 'worst'"),
        ({"block": -1}, "block=-1: wanted a whole number"),
        ({"kinks": "any"}, "kinks='any': wanted 'either', 'convention' or"),
    ):
        with pytest.raises(ValueError, match=f"Rounding: {message}"):
            Rounding(**arguments)
