"""One text as the analyzers get it: what was said, the forms it was read in, and which entries were found in them."""

import msgspec

from appliance.text.blocklist import Hit
from appliance.text.language import UNKNOWN, Language
from appliance.text.view import View


class Reading(msgspec.Struct, frozen=True):
    """Made once a text by the engine; an analyzer is a function of it."""

    text: str
    """As it was sent."""
    views: list[View]
    """The plain view (NFKC, small letters, nothing invisible), then what its disguises make worth reading."""
    hits: list[Hit]
    """Every entry found, in the order of the text; one entry at one place once, with its slightest disguise. What an
    allowed phrase covers, or the language makes innocent, is not here."""
    language: Language
    spoken: str = "auto"
    """The language that the caller named, or auto."""

    @property
    def plain(self) -> str:
        return self.views[0].text

    @property
    def tongue(self) -> str:
        """The language to go by: what the caller named, else what was detected."""
        return self.spoken.split("-")[0] if self.spoken not in ("", "auto", UNKNOWN) else self.language.code

    def of(self, analyzer: str | None) -> list[Hit]:
        """The hits of that analyzer's lists; None: of the lists that name none, the blocklist."""
        return [hit for hit in self.hits if hit.entry.analyzer == analyzer]
