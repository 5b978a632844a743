# SPDX-License-Identifier: Apache-2.0
"""A pseudo-random byte stream that its receiver can verify to the last byte: a lost, doubled or moved byte shows."""

import random

_BLOCK = 1 << 16


class Pattern:
    """The stream of a seed, read in pieces of any size."""

    def __init__(self, seed):
        self._random = random.Random(seed)
        self._rest = b""
        self.offset = 0

    def take(self, n):
        pieces, missing = [], n
        while missing > 0:
            if not self._rest:
                self._rest = self._random.randbytes(_BLOCK)
            piece, self._rest = self._rest[:missing], self._rest[missing:]
            pieces.append(piece)
            missing -= len(piece)
        self.offset += n
        return b"".join(pieces)


def first_difference(seed, data):
    """Where `data` stops being the beginning of the seed's stream; None if nowhere."""
    pattern = Pattern(seed)
    for begin in range(0, len(data), _BLOCK):
        piece = bytes(data[begin:begin + _BLOCK])
        expected = pattern.take(len(piece))
        if piece != expected:
            return begin + next(i for i, (a, b) in enumerate(zip(piece, expected)) if a != b)
    return None


def assert_stream(seed, data, length, who):
    """Asserts that `data` is exactly the first `length` bytes of the seed's stream."""
    where = first_difference(seed, data)
    assert where is None, f"{who}: byte {where} of {len(data)} is wrong"
    assert len(data) == length, f"{who}: {len(data)} bytes instead of {length}"
