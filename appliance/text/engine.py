"""The engine: every rule on one text, the same for every surface. Pure but for the operator's lists, which are rows."""

from appliance.house import House
from appliance.text import language
from appliance.text.analysis import Analysis, Result
from appliance.text.lexicons import Lexicons


class Engine:
    """One process's; used by any number of threads."""

    def __init__(self, house: House) -> None:
        self._lexicons = Lexicons(house)

    def analyze(self, org_id: str, text: str, spoken: str = "auto") -> Analysis:
        """What the rules say. `spoken` is the language the caller names, or auto."""
        results = {"blocklist": Result(0.0)}
        match = self._lexicons.match(org_id, text)
        if match is not None:
            results["blocklist"] = Result(1.0, (match.term,), match.severity)
        return Analysis(language.detect(text), results)
