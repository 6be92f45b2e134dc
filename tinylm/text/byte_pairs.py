"""Byte-pair encoding: which neighbours become one symbol, learned and applied.

Sennrich, Haddow and Birch 2016, "Neural machine translation of rare words with subword units",
section 3.2: words begin as single symbols, and the most frequent pair of neighbours becomes a new
symbol, again and again. A symbol is an id here, and knows nothing of bytes or characters.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

Pair = tuple[int, int]


def learn_merges(
    words: Mapping[tuple[int, ...], int],
    tokens: Sequence[str],
    vocab_size: int,
    join: Callable[[str, str], str],
) -> tuple[list[str], list[Pair]]:
    """The merges of the most frequent pairs, until there are so many tokens or nothing to merge.

    A pair is counted at every place where it stands, also where two overlap ("aaa" has the pair
    a, a twice). Of pairs that are equally frequent the one with the smallest ids is merged first,
    the left id before the right one. No two merges make the same token: where it ends up as one,
    nothing was ever merged across its ends, so it was put together in the same way everywhere.

    The counts are kept from merge to merge: only the words that hold the merged pair are looked
    at again, and the heap holds every pair with the count that it had when it was last looked at.
    So the time is that of reading the words once, and of as many symbols as stand in the words
    that change.

    Parameters
    ----------
    words : mapping of tuple of int to int
        Words, as ids of `tokens`, and how often they occur.
    tokens : sequence of str
        The symbols to begin with.
    vocab_size : int
        How many tokens at most.
    join : callable
        The token that two tokens make.

    Returns
    -------
    tokens : list of str
        Those given, and the new ones in the order in which they were made.
    merges : list of tuple of int
        The pairs of ids, in that order.
    """
    tokens, merges = list(tokens), list[Pair]()
    spelled = [list(word) for word in words]
    frequencies = list(words.values())
    counts: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for place, (word, frequency) in enumerate(zip(spelled, frequencies, strict=True)):
        for pair in pairwise(word):
            counts[pair] += frequency
            places[pair].add(place)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    while heap and len(tokens) < vocab_size:
        count, pair = heapq.heappop(heap)
        if -count != counts[pair]:  # it has changed since
            if counts[pair]:
                heapq.heappush(heap, (-counts[pair], pair))
            continue
        new = len(tokens)
        tokens.append(join(tokens[pair[0]], tokens[pair[1]]))
        merges.append(pair)
        grown: set[Pair] = set()
        for place in places.pop(pair):
            before, frequency = spelled[place], frequencies[place]
            spelled[place] = after = replaced(before, pair, new)
            for gone in pairwise(before):
                counts[gone] -= frequency
            for made in pairwise(after):
                counts[made] += frequency
                if new in made:
                    places[made].add(place)
                    grown.add(made)
        for made in grown:
            heapq.heappush(heap, (-counts[made], made))
    return tokens, merges


def replaced(word: Sequence[int], pair: Pair, new: int) -> list[int]:
    """A word with one symbol for each pair in it, from left to right."""
    symbols: list[int] = []
    left, right = pair
    place, last = 0, len(word) - 1
    while place <= last:
        if word[place] == left and place < last and word[place + 1] == right:
            symbols.append(new)
            place += 2
        else:
            symbols.append(word[place])
            place += 1
    return symbols


def apply_merges(word: Sequence[int], merges: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """A word after its merges: always the one of the lowest rank, and of these the leftmost.

    For n symbols the time is O(n log n): every symbol knows its neighbours, and the pairs that
    may be merged wait in heaps, one of ranks, and for each rank one of places.

    Parameters
    ----------
    word : sequence of int
        The symbols that it begins with.
    merges : mapping of tuple of int to tuple of int
        The rank of a pair, and the symbol that it becomes.

    Examples
    --------
    >>> from tinylm.text.byte_pairs import apply_merges
    >>> apply_merges([0, 0, 0, 1], {(0, 1): (1, 3), (0, 0): (0, 2)})  # "aaab", aa before ab
    [2, 3]
    """
    size = len(word)
    symbols = list(word)
    after, before = list(range(1, size + 1)), list(range(-1, size - 1))
    waiting: dict[int, list[int]] = {}
    for place, pair in enumerate(pairwise(word)):
        if pair in merges:
            waiting.setdefault(merges[pair][0], []).append(place)  # in order, and so a heap
    ranks = list(waiting)
    heapq.heapify(ranks)
    while ranks:
        rank = ranks[0]
        left = heapq.heappop(waiting[rank])
        if not waiting[rank]:
            del waiting[heapq.heappop(ranks)]
        right = after[left]
        found = merges.get((symbols[left], symbols[right])) if right < size else None
        if found is None or found[0] != rank:  # a neighbour has been merged since
            continue
        symbols[left], symbols[right] = found[1], -1
        after[left] = following = after[right]
        if following < size:
            before[following] = left
        for place in (before[left], left):
            if place >= 0 and after[place] < size:
                found = merges.get((symbols[place], symbols[after[place]]))
                if found is not None:
                    if found[0] not in waiting:
                        heapq.heappush(ranks, found[0])
                    heapq.heappush(waiting.setdefault(found[0], []), place)
    return [symbol for symbol in symbols if symbol >= 0]
