"""The text judge: is this text prohibited under this policy? The verdict is read from the model, not generated.

The policy prompt's prefix is prefilled once and stays in the cache; waiting texts are so many sequences that go on from
it, read in one decode. The verdict is the log-odds of the yes and no tokens where the answer would begin. Only a
prohibited text pays for generation, of one short reason.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.errors import Misconfigured
from appliance.inference.judge import NO_VERDICT, Ballot, judge_of
from appliance.inference.llama_core import MAX_SEQUENCES, Batch, Engine
from appliance.inference.manifest import Manifest
from appliance.inference.runtime import TextItem, digest_of
from appliance.inference.wire import Answer, Problem
from appliance.settings import Settings

SYSTEM = (
    "You are a content moderator. Answer {yes} if the text is prohibited by this policy, and {no} if it is allowed."
)
QUESTION = "Prohibited?"
"""Asked once more after the text, so that a text which gives orders does not have the last word. Short: these tokens
are read for every text, while those before it are read once."""

_PREFIXES = 12
"""Policy prompts kept in the cache at once, while there is room: the house's own, an organisation's ten, one to spare.
With four, ten custom policies beside the house's cost 5.0 s a prompt on 2 busy cores; with twelve, 1.4 s."""
_MIN_WINDOW = 32
_OVERLAP = 128
"""Tokens that two neighbouring windows have in common, so that a sentence on the border is read whole."""
_REASON_LEAD = ". Reason: The text"
_REASON_TOKENS = 40
_REASON_RULES = r"""
root ::= [ A-Za-z] part{1,240} "."?
part ::= [-A-Za-z0-9 ,;:'()/%+] | [\u00C0-\u024F]
"""
"""One sentence of letters, figures and plain marks: no new line, nothing that HTML, Markdown or a log could mistake."""


class _Prefix(msgspec.Struct):
    """A policy prompt in the cache: the sequence that holds it, and how many tokens it takes."""

    sequence: int
    size: int


class _Part(msgspec.Struct):
    """One window of one text, on its way through the model."""

    item: int
    prompt: str
    tokens: list[int]
    sequence: int = -1
    at: int = -1
    """Its last token's index in the batch, where the verdict is read."""
    end: int = 0
    """The next position in its sequence."""
    log_odds: float = 0.0


class TextJudge:
    """One GGUF that answers TextItems. One thread at a time; see runtime.Model."""

    def __init__(self, engine: Engine, manifest: Manifest, *, digest: str, max_batch: int) -> None:
        self._engine = engine
        self._judge = judge_of(manifest)
        self._ballot = Ballot(engine, self._judge)
        self.digest = digest
        self.max_batch = max_batch
        self._before, self._between, self._after = self._template()
        self._lead = engine.ordinary(self._judge.yes + _REASON_LEAD)
        self._reason_room = len(self._lead) + _REASON_TOKENS
        self._prefixes: OrderedDict[str, _Prefix] = OrderedDict()
        """Least recently used first."""
        self._prompts: dict[str, list[int]] = {}
        engine.grammar(_REASON_RULES).close()  # a grammar that cannot be read is found now, not at the first reason

    @property
    def device(self) -> str:
        return self._engine.device

    @property
    def shortfall(self) -> str:
        return self._engine.shortfall

    @property
    def memory_bytes(self) -> int:
        return self._engine.memory_bytes

    @property
    def decoded_tokens(self) -> int:
        """How many tokens the model has read since it was opened."""
        return self._engine.decoded_tokens

    def answer(self, items: Sequence[TextItem]) -> list[Answer]:
        """Scores `prohibited`; detail holds `log_odds`, `windows` and `tokens`. Raises ModelRefused."""
        answers: list[Answer | None] = [None] * len(items)
        parts: list[list[_Part]] = [[] for _ in items]
        for index, item in enumerate(items):
            cut = self._windows(item)
            if isinstance(cut, Problem):
                answers[index] = Answer(problem=cut)
            else:
                parts[index] = [_Part(item=index, prompt=item.prompt, tokens=window) for window in cut]
        # Texts under one prompt stand together, so that a round needs few prefixes.
        waiting = sorted((part for each in parts for part in each), key=lambda part: part.prompt)
        reasons: dict[int, str] = {}
        try:
            while waiting:
                taken = self._read(waiting)
                self._explain(taken, items, reasons)
                for part in taken:
                    self._engine.forget(part.sequence)
                waiting = waiting[len(taken) :]
        except BaseException:
            self._start_over()
            raise
        return [
            answer if answer is not None else self._answer(parts[index], reasons.get(index))
            for index, answer in enumerate(answers)
        ]

    def close(self) -> None:
        self._prefixes.clear()
        self._engine.close()

    # --- how it is put ------------------------------------------------------------------------------------------------

    def _template(self) -> tuple[list[int], list[int], list[int]]:
        """The tokens before the policy, between policy and text, and after the text. Raises Misconfigured."""
        policy, text = "@@the policy@@", "@@the text@@"
        system = self._judge.system or SYSTEM.format(yes=self._judge.yes, no=self._judge.no)
        written = self._engine.chat(
            self._judge.template,
            [
                ("system", f"{system}\n\n{policy}"),
                ("user", f"Text:\n{text}\n{self._judge.question or QUESTION}"),
            ],
        )
        before, found_policy, rest = written.partition(policy)
        between, found_text, after = rest.partition(text)
        if not found_policy or not found_text:
            raise Misconfigured(f"{self._engine.path.name}: its chat template leaves out the policy or the text")
        return (
            self._engine.tokenize(before, special=True, begin=True),
            self._engine.tokenize(between, special=True),
            self._engine.tokenize(after + self._judge.answer, special=True),
        )

    def _windows(self, item: TextItem) -> list[list[int]] | Problem:
        """The text's tokens, in overlapping windows when they are more than fit beside the policy prompt."""
        engine = self._engine
        prefix = len(self._prefix_tokens(item.prompt))
        limit = min(engine.context_tokens, engine.trained_tokens) - prefix - self._reason_room
        room = min(limit, engine.batch_tokens) - len(self._after)
        if room < _MIN_WINDOW:
            return Problem(
                code="MODEL_REFUSED",
                message=f"The policy prompt takes {prefix} of {min(engine.context_tokens, engine.trained_tokens)} "
                "tokens; shorten it or raise inference.context_tokens",
                passing=False,
            )
        tokens = engine.ordinary(item.text)
        return [tokens[start:end] for start, end in windows(len(tokens), room)]

    def _prefix_tokens(self, prompt: str) -> list[int]:
        """All that stands before the text, the policy tokenised once for many texts."""
        if prompt not in self._prompts:
            if len(self._prompts) >= 64:
                self._prompts.clear()
            self._prompts[prompt] = [*self._before, *self._engine.ordinary(prompt), *self._between]
        return self._prompts[prompt]

    def _prefix(self, prompt: str, room: int, busy: set[str]) -> _Prefix | None:
        """The prompt's place in the cache with `room` cells free besides; None when prompts in use leave no place."""
        known = self._prefixes.get(prompt)
        tokens = [] if known else self._prefix_tokens(prompt)
        while len(self._prefixes) - (known is not None) >= _PREFIXES or self._free_cells() < len(tokens) + room:
            oldest = next((name for name in self._prefixes if name not in busy and name != prompt), None)
            if oldest is None:
                return None
            self._engine.forget(self._prefixes.pop(oldest).sequence)
        if known is None:
            used = {prefix.sequence for prefix in self._prefixes.values()}
            sequence = next(number for number in range(_PREFIXES) if number not in used)
            self._engine.prefill(tokens, sequence)
            known = self._prefixes[prompt] = _Prefix(sequence=sequence, size=len(tokens))
        self._prefixes.move_to_end(prompt)
        return known

    def _free_cells(self) -> int:
        return self._engine.context_tokens - sum(prefix.size for prefix in self._prefixes.values())

    def _start_over(self) -> None:
        """After a failure nothing in the cache is trusted."""
        self._prefixes.clear()
        self._engine.forget_all()

    # --- how it is read -----------------------------------------------------------------------------------------------

    def _read(self, waiting: Sequence[_Part]) -> list[_Part]:
        """Reads as many parts, from the first on, as one decode takes. Their sequences stay in the cache."""
        batch = Batch()
        taken: list[_Part] = []
        busy: set[str] = set()
        for part in waiting[: self.max_batch]:
            size = len(part.tokens) + len(self._after)
            if len(batch) + size > self._engine.batch_tokens:
                break
            prefix = self._prefix(part.prompt, len(batch) + size + self._reason_room, busy)
            if prefix is None:
                break
            busy.add(part.prompt)
            part.sequence = _PREFIXES + len(taken)
            self._engine.lend(prefix.sequence, part.sequence)
            part.at = batch.add([*part.tokens, *self._after], prefix.size, (part.sequence,), want_last=True)
            part.end = prefix.size + size
            taken.append(part)
        assert taken, "a window is cut so that it fits with its own prefix alone"
        self._engine.decode(batch)
        for part in taken:
            part.log_odds = self._ballot.log_odds(self._engine.logits(part.at))
        return taken

    def _answer(self, parts: list[_Part], reason: str | None) -> Answer:
        """The worst window decides."""
        worst = max(part.log_odds for part in parts)
        if any(part.log_odds != part.log_odds for part in parts):
            return Answer(problem=NO_VERDICT)
        return Answer(
            scores={"prohibited": self._ballot.probability(worst)},
            reason=reason,
            detail={
                "log_odds": worst,
                "windows": len(parts),
                "tokens": sum(len(part.tokens) for part in parts),
            },
        )

    # --- the reason ---------------------------------------------------------------------------------------------------

    def _explain(self, taken: Sequence[_Part], items: Sequence[TextItem], reasons: dict[int, str]) -> None:
        """Writes one reason for each text that has reached its `reason_above`, in its strongest window of these."""
        chosen: dict[int, _Part] = {}
        for part in taken:
            if part.item in reasons or not self._ballot.probability(part.log_odds) >= items[part.item].reason_above:
                continue
            if part.item not in chosen or part.log_odds > chosen[part.item].log_odds:
                chosen[part.item] = part
        for part in taken:
            if chosen.get(part.item) is not part:
                self._engine.forget(part.sequence)  # its cells are room for the reasons
        waiting = list(chosen.values())
        while waiting:
            held = sum(len(part.tokens) + len(self._after) for part in waiting)
            together = max(1, (self._free_cells() - held) // self._reason_room)
            for part, reason in zip(waiting, self._write(waiting[:together]), strict=False):
                if reason:
                    reasons[part.item] = reason
                self._engine.forget(part.sequence)
            waiting = waiting[together:]

    def _write(self, parts: Sequence[_Part]) -> list[str]:
        """Greedy, one token of every unfinished reason a decode, each under its own grammar."""
        grammars = [self._engine.grammar(_REASON_RULES) for _ in parts]
        try:
            written = [b""] * len(parts)
            going = list(range(len(parts)))
            upcoming = {index: self._lead for index in going}
            positions = {index: parts[index].end for index in going}
            for _ in range(_REASON_TOKENS):
                batch = Batch()
                at: dict[int, int] = {}
                for index in going:
                    sequence = (parts[index].sequence,)
                    at[index] = batch.add(upcoming[index], positions[index], sequence, want_last=True)
                    positions[index] += len(upcoming[index])
                self._engine.decode(batch)
                for index in list(going):
                    token = grammars[index].choose(self._engine.logits(at[index]))
                    if token is not None:
                        written[index] += self._engine.piece(token)
                        upcoming[index] = [token]
                    if token is None or written[index].endswith(b"."):
                        going.remove(index)
                if not going:
                    break
        finally:
            for grammar in grammars:
                grammar.close()
        return [_sentence(text.decode("utf-8", errors="ignore")) for text in written]


def windows(count: int, room: int) -> list[tuple[int, int]]:
    """Where `count` tokens are cut so that each piece fits in `room`: neighbours overlap, and every token is in one."""
    step = room - min(_OVERLAP, room // 4)
    return [(start, min(start + room, count)) for start in range(0, max(count - room, 0) + step, step)]


def _sentence(text: str) -> str:
    """What was written after the lead, as a sentence. Empty when nothing was."""
    words = " ".join(text.split())
    if not words:
        return ""
    return f"The text {words}" if words.endswith(".") else f"The text {words.rstrip(' ,;:(-')}."


def open_model(settings: Settings, manifest: Manifest, folder: Path) -> TextJudge:
    """Opens the manifest's GGUF. Raises Misconfigured with a sentence."""
    path = folder / next((file.name for file in manifest.files if file.name.endswith(".gguf")), "")
    if not path.is_file():
        raise Misconfigured(f"{manifest.name}: its manifest names no .gguf file")
    most = min(settings.inference.max_batch, MAX_SEQUENCES - _PREFIXES)
    engine = Engine(
        path,
        device=settings.inference.device,
        threads=settings.inference.threads,
        context_tokens=settings.inference.context_tokens,
        sequences=_PREFIXES + most,
    )
    try:
        return TextJudge(engine, manifest, digest=digest_of(manifest, folder), max_batch=settings.inference.max_batch)
    except BaseException:
        engine.close()
        raise
