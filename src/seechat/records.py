"""The one record: a conversation or a document with pictures and states in it.

Captions, question answering, interleaved pages, few-shot documents and robot plans are all records.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["user", "assistant", "document"]


@dataclass(frozen=True)
class Text:
    """Words. Never read as control tokens, whatever they spell."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A picture: anything that `data.pictures.read_picture` reads, or a row number in a pool of features."""

    source: Any


@dataclass(frozen=True)
class State:
    """A robot's or an object's state vector."""

    values: tuple[float, ...]


Part = Text | Picture | State


@dataclass(frozen=True)
class Turn:
    """`user` turns are read, `assistant` turns are answered (supervised), `document` turns are continued (every word supervised)."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True)
class Record:
    id: str
    turns: tuple[Turn, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """In the order in which they are met."""
        return tuple(part for turn in self.turns for part in turn.parts if isinstance(part, Picture))

    def exchanges(self) -> Iterator[tuple[Turn, Turn]]:
        """The (user, assistant) pairs. Raises ValueError with the record's id where turns do not alternate."""
        if len(self.turns) % 2 or any(turn.role != ("user", "assistant")[i % 2] for i, turn in enumerate(self.turns)):
            raise ValueError(f"record {self.id!r}: turns must alternate user, assistant")
        yield from zip(self.turns[::2], self.turns[1::2], strict=True)


def user(*parts: Part | str) -> Turn:
    return Turn("user", tuple(Text(p) if isinstance(p, str) else p for p in parts))


def assistant(text: str) -> Turn:
    return Turn("assistant", (Text(text),))


def document(*parts: Part | str) -> Turn:
    return Turn("document", tuple(Text(p) if isinstance(p, str) else p for p in parts))
