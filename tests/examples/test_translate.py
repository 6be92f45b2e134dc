"""What `examples/translate.py` learns from, and the rival that it is held to."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from cldr_pairs import Pair, pairs
from translation_memory import memory


def dated(source, target):
    return Pair("dates", "long", "de", source, target)


def test_memory_by_hand():
    recalled = memory(
        [
            dated("May 5, 2055", "5. Mai 2055"),  # the 5s may be from three places
            dated("May 3, 1994", "3. Mai 1994"),
            dated("5/7/1968", "07.05.1968"),
            dated("3/4/2011", "04.03.2011"),
            dated("8/9/1950", "irgendwann"),
        ]
    )
    assert recalled(dated("May 8, 2041", "")) == "8. Mai 2041"
    assert recalled(dated("6/2/1977", "")) == "02.06.1977"
    assert recalled(dated("June 8, 2041", "")) == "June 8, 2041"  # a new pattern
    assert recalled(dated("May 8, 2041", "")._replace(language="zh")) == "May 8, 2041"


def test_what_is_held_out_is_in_no_form_among_the_rest():
    pytest.importorskip("babel")
    held_out = np.random.default_rng(0).random(10**6) < 0.3
    rest, held = (pairs(300, held_out, x, np.random.default_rng(1)) for x in (False, True))
    assert not {p.source for p in rest} & {p.source for p in held}
    digits = [
        {re.sub("[^0-9]", "", p.source).strip("0") for p in made if p.group == "numbers"}
        for made in (rest, held)
    ]
    assert digits[0]
    assert not digits[0] & digits[1]


def test_one_english_text_has_one_translation():
    pytest.importorskip("babel")
    made = pairs(300, np.zeros(10**6, bool), False, np.random.default_rng(2))
    assert len({(p.language, p.source) for p in made}) == len(
        {(p.language, p.source, p.target) for p in made}
    )
