"""The page of attention: one file, which shows tokens and does nothing that they say."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.interpret import attention_page
from tinylm.interpret.page import visible

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "</script/",
    "]]>",
    "\"'`&amp;",
    "\n\r\0\x1b\x7f",
    "\u202e\u2066\u200f",
    "\ud800",
    "\u2028\u2029",
    "{{data}}",
    "\\u003c",
    "שלום",
    "",
]


class Reader(HTMLParser):
    """Tags, and the text of the title and of the two scripts."""

    def __init__(self):
        super().__init__()
        self.tags, self.inside = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not {"src", "href", "srcset", "action"} & dict(attrs).keys()

    def handle_data(self, data):
        if self.tags and self.tags[-1] in ("script", "title") and data.strip():
            self.inside.append((self.tags[-1], data))


def read(page):
    """The parsed page and what it is given to draw."""
    reader = Reader()
    reader.feed(page)
    (data, _) = [text for tag, text in reader.inside if tag == "script"]
    assert not set("<>&") & set(data), "no tag can begin or end in the data"
    return reader, json.loads(data)


def test_weights_by_hand():
    weights = np.array([[[1.0, 0.0], [0.25, 0.75]], [[1.0, 0.0], [0.5, 0.5]]])
    _, data = read(attention_page({"blocks.0.attention": weights}, ["a", "b"]))
    (attention,) = data["attentions"]
    assert (attention["name"], attention["heads"]) == ("blocks.0.attention", 2)
    raw = base64.b64decode(attention["weights"])
    levels = [raw[i] + 256 * raw[i + 1] for i in range(0, len(raw), 2)]
    assert levels == [65535, 0, 16384, 49151, 65535, 0, 32768, 32768]
    assert data["tokens"] == data["sources"] == ["a", "b"]


def test_sources_of_their_own():
    _, data = read(
        attention_page({"cross": np.full((1, 2, 3), 1 / 3)}, ["a", "b"], ["x", "y", "z"])
    )
    assert (data["tokens"], data["sources"]) == (["a", "b"], ["x", "y", "z"])


@given(st.lists(st.sampled_from(HOSTILE) | st.text(st.characters()), min_size=1, max_size=4))
def test_tokens_are_text_whatever_they_hold(tokens):
    uniform = np.full((1, len(tokens), len(tokens)), 1 / len(tokens))
    page = attention_page({tokens[0]: uniform}, tokens, title=tokens[-1])
    plain = attention_page({"a": uniform}, ["a"] * len(tokens), title="a")
    assert page.isascii()
    reader, data = read(page)
    assert reader.tags == read(plain)[0].tags
    assert data["tokens"] == [visible(token) for token in tokens]
    assert all(c.isprintable() for token in data["tokens"] for c in token)
    assert ("title", visible(tokens[-1], " ")) in reader.inside


def test_the_page_loads_nothing():
    page = attention_page({"a": np.ones((1, 1, 1))}, ["a"])
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page)


def test_what_does_not_show_is_written_out():
    assert [visible(text) for text in ("a b", "\n", "\u202e", "\ud800", "", "é", "\xa0")] == [
        "a\N{OPEN BOX}b",
        "\\n",
        "\\u202e",
        "\\ud800",
        "\N{EMPTY SET}",
        "é",
        "\\xa0",
    ]


def told(shown):
    """What a text was of which this is `visible`."""
    if shown == "\N{EMPTY SET}":
        return ""
    escape = r"\\(?:x..|u.{4}|U.{8}|.)"
    text = shown.replace("\N{OPEN BOX}", " ")
    return re.sub(escape, lambda found: found[0].encode().decode("unicode_escape"), text)


@given(st.text(st.characters() | st.sampled_from("\\nxu \N{OPEN BOX}\N{EMPTY SET}\u0301\ufe0f")))
def test_different_texts_look_different(text):
    shown = visible(text)
    assert told(shown) == text
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\\n", "\\\\n"),
        ("\u3164\u2800\uffa0\u115f", "\\u3164\\u2800\\uffa0\\u115f"),
        ("a\ufe0f\U000e0100", "a\\ufe0f\\U000e0100"),
        ("e\u0301", "e\u0301"),
        ("\u0301", "\\u0301"),
        (" \u0301\u0302", "\N{OPEN BOX}\\u0301\\u0302"),
        ("\n\u0301", "\\n\\u0301"),
        ("का", "का"),
        ("ा", "\\u093e"),
        ("\N{OPEN BOX}", "\\u2423"),
    ],
)
def test_blank_letters_and_marks_without_a_letter(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((1, 2, 3)), r"a has weights of shape \(1, 2, 3\): wanted \(H, 2, 2\)"),
        (np.ones((2, 2)), r"shape \(2, 2\)"),
        (np.ones((0, 2, 2)), r"shape \(0, 2, 2\)"),
        (np.full((1, 2, 2), np.nan), r"the weights of a are not all in \[0, 1\]"),
        (np.full((1, 2, 2), 1.01), "not all in"),
        (np.full((1, 2, 2), -0.01), "not all in"),
    ],
)
def test_what_are_no_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        attention_page({"a": weights}, ["x", "y"])


def test_what_are_no_tokens():
    with pytest.raises(TypeError, match="3 among the tokens: wanted text"):
        attention_page({"a": np.ones((1, 1, 1))}, [3])
    with pytest.raises(ValueError, match="patterns is empty"):
        attention_page({}, ["a"])
