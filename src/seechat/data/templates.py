"""Prompt formats: how a record becomes segments, each of them text, a control token, a picture or a state; supervised or not.

A causal expert reads a dialogue as one sample, every answer supervised. ChatGLM sees its context both ways, so that a dialogue becomes one
sample a turn. Nothing is tokenized twice and subtracted: what is supervised is said here, segment by segment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from seechat.foundation.strict import nearest
from seechat.records import Part, Picture, Record, State, Text, Turn

Kind = Literal["text", "control", "picture", "state"]


@dataclass(frozen=True)
class Segment:
    """`value` is a string (text, control token) or the part itself; `context` is True where ChatGLM's prefix mask sees both ways."""

    kind: Kind
    value: str | Picture | State
    supervised: bool = False
    context: bool = False


def text(value: str, **flags: bool) -> Segment:
    return Segment("text", value, **flags)


def control(value: str, **flags: bool) -> Segment:
    return Segment("control", value, **flags)


def spaced(words: str) -> str:
    """Latin words begin with a space, as inside a sentence, so that a word is the same token wherever it stands."""
    return " " + words if words[:1].isascii() and words[:1].isalnum() else words


@dataclass(frozen=True)
class Template:
    """A prompt format as data.

    `image` wraps a picture; `round` makes the (opening, closing) words around question number n of a dialogue of so many rounds;
    `between` follows an answer; `end` is the control token that ends an answer of a causal expert.
    """

    name: str
    image: tuple[Segment, Segment]
    round: Callable[[int, int], tuple[str, str]]
    between: str
    stop: str | None = None  # words at which a reply is cut

    def question(self, turn: Turn, number: int, rounds: int) -> list[Segment]:
        opening, closing = self.round(number, rounds)
        return _joined([text(opening), *self._parts(turn.parts), text(closing)])

    def _parts(self, parts: Sequence[Part]) -> list[Segment]:
        segments: list[Segment] = []
        for part in parts:
            if isinstance(part, Picture):
                segments += [self.image[0], Segment("picture", part), self.image[1]]
            elif isinstance(part, State):
                segments += [control("<state>"), Segment("state", part)]
            else:
                segments.append(text(spaced(part.text)))
        return segments

    # ---- samples for training and for prompting ---------------------------------------------------------------------

    def prefix_samples(self, record: Record) -> list[list[Segment]]:
        """ChatGLM's samples: one an answer, or one a document."""
        if record.turns[0].role == "document":
            return [self._prefix([], [s for turn in record.turns for s in self._parts(turn.parts)])]
        samples, history = [], []
        for turn, reply in record.exchanges():
            history.append((turn, reply))
            samples.append(self._prefix(self.prompt(history), self._parts(reply.parts)))
        return samples

    def prefix_sheet(self, opening: Sequence[Part], exchanges: Sequence[tuple[str, str]]) -> list[Segment]:
        """A document of several questions for ChatGLM: `opening` is the context, every answer of the continuation is supervised."""
        head = [control("[gMASK]", context=True), control("<sop>")]
        segments = [*_context(self._parts(opening)), *head]
        for question, answer in exchanges:
            segments += [text("问："), text(spaced(question)), text("\n答：")]
            segments += [text(spaced(answer), supervised=True), control("<eop>", supervised=True)]
        return segments

    def roll_call(self, opening: Sequence[Part], calls: Sequence[tuple[str, str]], prefix: bool) -> list[Segment]:
        """Words called after the opening, each with its answer, which is supervised; as a document of ChatGLM, or a causal expert's."""
        segments = self._parts(opening)
        segments = [*_context(segments), control("[gMASK]", context=True), control("<sop>")] if prefix else [control("<s>"), *segments]
        for call, answer in calls:
            segments += [text(spaced(call)), text(spaced(answer), supervised=True)]
        return segments

    def causal_sample(self, record: Record) -> list[Segment]:
        """A causal expert's sample: the whole dialogue or document."""
        if record.turns[0].role == "document":
            parts = [s for turn in record.turns for s in self._parts(turn.parts)]
            return [control("<s>"), *_supervised(parts), control("</s>", supervised=True)]
        segments, pairs = [control("<s>")], list(record.exchanges())
        for number, (turn, reply) in enumerate(pairs):
            segments += self.question(turn, number, number + 1)
            segments += [*_supervised(self._parts(reply.parts)), control("</s>", supervised=True)]
        return segments

    def prompt(self, history: Sequence[tuple[Turn, Turn | None]]) -> list[Segment]:
        """Everything before the answer to the last question; answers of earlier rounds are given."""
        segments: list[Segment] = []
        for number, (turn, reply) in enumerate(history):
            segments += self.question(turn, number, len(history))
            if number + 1 < len(history):
                assert reply is not None
                segments += [*self._parts(reply.parts), text(self.between)]
        return _joined(segments)

    def prefix_prompt(self, history: Sequence[tuple[Turn, Turn | None]]) -> list[Segment]:
        return [*_context(self.prompt(history)), control("[gMASK]", context=True), control("<sop>")]

    def causal_prompt(self, history: Sequence[tuple[Turn, Turn | None]]) -> list[Segment]:
        segments = [control("<s>")]
        for number, (turn, reply) in enumerate(history):
            segments += self.question(turn, number, number + 1)
            if number + 1 < len(history):
                assert reply is not None
                segments += [*self._parts(reply.parts), control("</s>")]
        return segments

    @staticmethod
    def _prefix(context: Sequence[Segment], answer: Sequence[Segment]) -> list[Segment]:
        opening = [*_context(context), control("[gMASK]", context=True), control("<sop>")]
        return [*opening, *_supervised(answer), control("<eop>", supervised=True)]


def _context(segments: Sequence[Segment]) -> list[Segment]:
    return [replace(s, context=True) for s in segments]


def _supervised(segments: Sequence[Segment]) -> list[Segment]:
    return [replace(s, supervised=s.kind in ("text", "control")) for s in segments]


def _joined(segments: Sequence[Segment]) -> list[Segment]:
    """Empty words go."""
    return [s for s in segments if s.kind != "text" or s.value]


def _chatglm_round(number: int, rounds: int) -> tuple[str, str]:
    """ChatGLM-6B: the bare question when there is no history, else `[Round n]` with 问 and 答 (chat() of its release)."""
    return ("", "") if rounds == 1 else (f"[Round {number}]\n问：", "\n答：")


def _seechat_round(number: int, rounds: int) -> tuple[str, str]:
    """MiniGPT-4's markers, which SEEChat's released code keeps (demo_stage2.py)."""
    return "###Human:", "###Assistant:"


TEMPLATES = {
    "chatglm": Template("chatglm", (control("<image>"), control("</image>")), _chatglm_round, "\n"),
    "seechat": Template("seechat", (text("<Img>"), text("</Img>")), _seechat_round, "", stop="###"),
}


def template(name: str) -> Template:
    """Raises ValueError naming the nearest template."""
    if name not in TEMPLATES:
        raise ValueError(f"unknown template {name!r}{nearest(name, TEMPLATES)}")
    return TEMPLATES[name]


__all__ = ["TEMPLATES", "Segment", "Template", "Text", "control", "spaced", "template", "text"]
