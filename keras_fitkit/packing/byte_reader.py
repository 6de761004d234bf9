"""Numbers of variable length, and a reader that never reads past the end."""

from __future__ import annotations

from keras_fitkit.packing.errors import PackedFileError

_LONGEST = 9  # bytes of a number: 63 bits


def number(value: int) -> bytes:
    """A non-negative integer, seven bits a byte, the lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def block(content: bytes) -> bytes:
    """Bytes with their length before them."""
    return number(len(content)) + content


class Reader:
    """Takes numbers and bytes off the front of a buffer.

    Args:
        content: what is read.
    """

    def __init__(self, content: bytes | memoryview) -> None:
        self._content = memoryview(content)
        self._place = 0

    @property
    def left(self) -> int:
        """How many bytes have not been read."""
        return len(self._content) - self._place

    def take(self, count: int) -> memoryview:
        """The next bytes.

        Raises:
            PackedFileError: there are not so many.
        """
        if not 0 <= count <= self.left:
            raise PackedFileError(f"{count} bytes announced, {self.left} left")
        self._place += count
        return self._content[self._place - count : self._place]

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def number(self, high: int) -> int:
        """What `number` wrote.

        Raises:
            PackedFileError: it is above `high`, or no end is found.
        """
        value = 0
        for place in range(_LONGEST):
            part = self.byte()
            value |= (part & 0x7F) << (7 * place)
            if part < 0x80:
                break
        else:
            raise PackedFileError("a number without an end")
        if value > high:
            raise PackedFileError(f"the number {value} where {high} is the most")
        return value

    def block(self) -> memoryview:
        """What `block` wrote."""
        return self.take(self.number(self.left))

    def finished(self) -> None:
        """Raises PackedFileError if bytes are left."""
        if self.left:
            raise PackedFileError(f"{self.left} bytes too many")
