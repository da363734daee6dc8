"""What each attribute of Perspective is here: which heads and rules answer it, in which languages, and which attributes
nothing answers. A number that no model gave is never told."""

from collections.abc import Mapping

import msgspec

from appliance.text.analysis import RULES, Analysis
from appliance.text.analyzers import ANALYZERS


class Attribute(msgspec.Struct, frozen=True):
    """`ways`: the score is the highest of them; of a way with several parts the lowest counts (all must be so). A part
    is a label of the text heads or a rule of the engine; a way whose rule the engine does not have is passed over."""

    meaning: str
    ways: tuple[tuple[str, ...], ...]

    @property
    def open_ways(self) -> list[tuple[str, ...]]:
        return [way for way in self.ways if all(part in ANALYZERS or part not in RULES for part in way)]

    @property
    def needs_heads(self) -> bool:
        return any(part not in RULES for way in self.ways for part in way)

    @property
    def formula(self) -> str:
        ways = [way[0] if len(way) == 1 else f"the lower of {' and '.join(way)}" for way in self.open_ways]
        return ways[0] if len(ways) == 1 else f"the highest of: {'; '.join(ways)}"

    def score(self, analysis: Analysis) -> float | None:
        """None when a part is missing: nothing answered it."""
        # results after labels: of the multilingual heads they are on the English ones' scale
        told = analysis.labels | {name: one.score for name, one in analysis.results.items()}
        ways = self.open_ways
        if not ways or any(part not in told for way in ways for part in way):
            return None
        return min(1.0, max(0.0, max(min(told[part] for part in way) for way in ways)))


_TOXICITY = Attribute(
    "A rude, disrespectful or unreasonable comment that is likely to make people leave a discussion.",
    (("toxicity",), ("pattern_toxicity",)),
)

ATTRIBUTES = {
    "TOXICITY": _TOXICITY,
    "TOXICITY_FAST": _TOXICITY,
    "SEVERE_TOXICITY": Attribute(
        "Toxic, and at the same time hateful, harassing or violent.",
        (("toxicity", "hate"), ("toxicity", "hate/threatening"), ("toxicity", "harassment"), ("toxicity", "violence")),
    ),
    "IDENTITY_ATTACK": Attribute(
        "Negative or hateful towards somebody because of their identity.", (("hate",), ("hate/threatening",))
    ),
    "INSULT": Attribute(
        "Insulting, inflammatory or negative towards a person or a group.", (("harassment",), ("pattern_toxicity",))
    ),
    "PROFANITY": Attribute("Swear words, curse words or other obscene language, by the lists.", (("profanity",),)),
    "THREAT": Attribute(
        "An intention to hurt somebody: violence that is meant as an attack, not reported.",
        (("hate/threatening",), ("violence", "toxicity"), ("violence", "harassment")),
    ),
    "SEXUALLY_EXPLICIT": Attribute("References to sexual acts, body parts or other lewd content.", (("sexual",),)),
    "OBSCENE": Attribute(
        "Obscene or vulgar language, by the lists of profanity and of sexual words.", (("profanity",), ("nsfw",))
    ),
    "SPAM": Attribute("Irrelevant and unsolicited commercial content.", (("spam",),)),
}
"""The attributes that are answered, as far as the engine has their rules."""

EXPERIMENTAL = "_EXPERIMENTAL"
"""A name that ends so is the attribute without it."""

UNCOVERED = (
    "ATTACK_ON_AUTHOR",
    "ATTACK_ON_COMMENTER",
    "FLIRTATION",
    "INCOHERENT",
    "INFLAMMATORY",
    "LIKELY_TO_REJECT",
    "UNSUBSTANTIAL",
    "AFFINITY_EXPERIMENTAL",
    "ALIENATION_EXPERIMENTAL",
    "COMPASSION_EXPERIMENTAL",
    "CURIOSITY_EXPERIMENTAL",
    "FEARMONGERING_EXPERIMENTAL",
    "GENERALIZATION_EXPERIMENTAL",
    "MORAL_OUTRAGE_EXPERIMENTAL",
    "NUANCE_EXPERIMENTAL",
    "PERSONAL_STORY_EXPERIMENTAL",
    "POWER_APPEAL_EXPERIMENTAL",
    "REASONING_EXPERIMENTAL",
    "RESPECT_EXPERIMENTAL",
    "SCAPEGOATING_EXPERIMENTAL",
)
"""Attributes of Perspective that nothing here answers."""

_PACKS = ("en", "es", "fr", "de")
"""Of the rules: the languages of config/lexicons/."""


def plain(name: str) -> str:
    """Of NAME@version, NAME."""
    return name.partition("@")[0]


def find(name: str) -> Attribute | None:
    """By the name as it is requested, in any of its forms; None when nothing answers it."""
    if plain(name) in UNCOVERED:
        return None
    found = ATTRIBUTES.get(plain(name).removesuffix(EXPERIMENTAL))
    return found if found is not None and found.open_ways else None


def is_known(name: str) -> bool:
    """Whether Perspective has it, answered here or not."""
    bare = plain(name)
    return bare.removesuffix(EXPERIMENTAL) in ATTRIBUTES or bare in UNCOVERED or bare + EXPERIMENTAL in UNCOVERED


def languages(attribute: Attribute, of_heads: tuple[str, ...]) -> tuple[str, ...]:
    """In which it is answered, with heads for those."""
    return of_heads if attribute.needs_heads else _PACKS


def coverage(of_heads: tuple[str, ...]) -> Mapping[str, str]:
    """Attribute → a sentence on what it is here: for the discovery document and README."""
    return {
        name: f"{one.meaning} Languages: {', '.join(languages(one, of_heads))}. Score: {one.formula}."
        for name, one in ATTRIBUTES.items()
        if one.open_ways
    }
