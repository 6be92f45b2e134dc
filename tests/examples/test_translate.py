"""What `examples/translate.py` learns from, and the rival that it is held to."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import cldr.pairs
from cldr.memory import memory
from cldr.pairs import Pair, pairs


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
            dated("June 8, 2041", "2041年6月8日")._replace(language="zh"),
        ]
    )
    assert recalled(dated("May 8, 2041", "")) == "8. Mai 2041"
    assert recalled(dated("6/2/1977", "")) == "02.06.1977"
    assert recalled(dated("June 8, 2041", "")) == "June 8, 2041"  # a new pattern
    assert recalled(dated("May 8, 2041", "")._replace(language="zh")) == "May 8, 2041"


def test_of_equal_places_the_memory_takes_the_nearest():
    recalled = memory([dated("Jul 2, 2009", "2. Juli 2009")])
    assert recalled(dated("Jul 3, 2014", "")) == "3. Juli 2014"


def test_what_is_held_out_is_in_no_form_among_the_rest(monkeypatch):
    drawn = []
    monkeypatch.setattr(cldr.pairs, "written", lambda to, *x: drawn.append(x) or {})
    held_out = np.random.default_rng(0).random(10**6) < 0.3
    for unseen in (False, True):
        drawn.clear()
        pairs(300, held_out, unseen, np.random.default_rng(1))
        for a, b, n, _ in drawn:
            assert held_out[(a - cldr.pairs.FIRST).days] == unseen
            assert held_out[(b - cldr.pairs.FIRST).days] == unseen
            assert held_out[int(str(n).rstrip("0"))] == unseen


def test_one_english_text_has_one_translation():
    pytest.importorskip("babel")
    made = pairs(300, np.zeros(10**6, bool), False, np.random.default_rng(2))
    assert len({(p.language, p.source) for p in made}) == len(
        {(p.language, p.source, p.target) for p in made}
    )
