"""What an answer comes to, whatever the library."""

import dataclasses
import typing


@dataclasses.dataclass
class Usage:
    input: int
    """All of the request, what was in the provider's cache included."""
    output: int
    """All of the answer, thoughts included."""
    cached: int | None
    """None where the library has no place for it, as below."""
    reasoning: int | None = None


@dataclasses.dataclass
class Answer:
    text: str
    stop: str
    """`stop` or `tools`."""
    usage: Usage
    calls: list = dataclasses.field(default_factory=list)
    """`(id, name, arguments)` each."""
    thoughts: str = ""
    deltas: int = 0
    """In how many pieces the text came, of a stream."""
    turns: list = dataclasses.field(default_factory=list)
    """What a conversation goes on with."""
    parsed: typing.Any = None
    """The structured answer, as the library parsed it."""
    receipt: dict | None = None
    """What the gateway says of the call, of an answer that is whole."""
