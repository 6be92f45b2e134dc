"""Attention as one HTML page, which needs nothing but a browser."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any
from unicodedata import category

import numpy as np

LEVELS = (1 << 16) - 1
"""Weights are written as whole numbers up to this one, of two bytes."""

ESCAPED = re.compile(
    r"[ \\\N{OPEN BOX}\N{EMPTY SET}"
    r"\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    r"\U00013441\U00013442\U00016fe4\U0001d159\U000e0100-\U000e01ef]"
)
"""Signs of `visible`, and what is printable and blank: fillers, blank letters, selectors of variants."""


def attention_page(
    patterns: Mapping[str, Any],
    tokens: Sequence[str],
    sources: Sequence[str] | None = None,
    title: str = "Who attends to whom",
) -> str:
    r"""Attention patterns of one sequence as a page to explore: by mouse, by touch, by keyboard.

    The page is plain ASCII, loads nothing, and shows tokens as text whatever they hold. What does
    not show stands there as an escape, a space as an open box.

    Parameters
    ----------
    patterns : mapping of str to ndarray, shape (H, T, S)
        Weights in [0, 1] of each attention by its name, as from `attention_patterns`.
    tokens : sequence of str
        The T tokens that attend.
    sources : sequence of str, optional
        The S tokens that are attended to, if they are others: those of a Transformer's source.
    title : str

    Returns
    -------
    str
        HTML: write it into a file, and open that.

    Raises
    ------
    ValueError
        If there is no pattern, one has another shape, or what it holds are not weights.

    Examples
    --------
    >>> import numpy as np, tinylm as tl
    >>> page = tl.interpret.attention_page({"blocks.0.attention": np.eye(2)[None]}, ["</b>", "\n"])
    >>> "</b>" in page, page.isascii(), page[:15]
    (False, True, '<!doctype html>')
    """
    tokens = list(tokens)
    sources = tokens if sources is None else list(sources)
    wrong = [token for token in tokens + sources if not isinstance(token, str)]
    if wrong:
        raise TypeError(f"attention_page: {wrong[0]!r} among the tokens: wanted text")
    if not patterns:
        raise ValueError(
            "attention_page: patterns is empty: wanted weights by the attention's name"
        )
    attentions = []
    for name, weights in patterns.items():
        weights = np.asarray(weights)  # noqa: PLW2901
        T, S = len(tokens), len(sources)
        if weights.ndim != 3 or not weights.size or weights.shape[1:] != (T, S):
            raise ValueError(
                f"attention_page: {name} has weights of shape {weights.shape}: wanted (H, {T}, {S}), "
                f"heads, tokens and sources"
            )
        if not (np.min(weights) >= 0 and np.max(weights) <= 1 + 1e-3):  # false for nan as well
            raise ValueError(f"attention_page: the weights of {name} are not all in [0, 1]")
        levels = np.rint(np.minimum(weights, 1).astype(np.float64) * LEVELS).astype("<u2")
        attentions.append(
            {
                "name": visible(name),
                "heads": len(weights),
                "weights": base64.b64encode(levels.tobytes()).decode("ascii"),
            }
        )
    data = {
        "tokens": [visible(token) for token in tokens],
        "sources": [visible(token) for token in sources],
        "attentions": attentions,
    }
    template = resources.files(__package__).joinpath("page.html").read_text(encoding="ascii")
    heading = html.escape(visible(title, space=" ")).encode("ascii", "xmlcharrefreplace").decode()
    written = {"title": heading, "data": _script_safe(data)}
    return re.sub(r"{{(\w+)}}", lambda found: written[found[1]], template)


def visible(text: str, space: str = "\N{OPEN BOX}") -> str:
    r"""Text of which every character shows, and which tells what it was.

    As escapes stand controls, marks of direction, halves, blank letters and accents without a letter,
    and what else would be read as one of the signs: a backslash, an open box, an empty set.

    Examples
    --------
    >>> from tinylm.interpret.page import visible
    >>> print(visible("a b\n\u202e\ud800"), visible("\\n"), visible("a\ufe0f\u3164"))
    a␣b\n\u202e\ud800 \\n a\ufe0f\u3164
    """
    if not text:
        return "\N{EMPTY SET}"
    shown, base = [], False
    for c in text:
        base = c.isprintable() and not ESCAPED.match(c) and (base or category(c)[0] != "M")
        shown.append(space if c == " " else c if base else c.encode("unicode_escape").decode())
    return "".join(shown)


def _script_safe(data: Any) -> str:
    """JSON in ASCII in which no character could end the element that it stands in."""
    text = json.dumps(data)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
