"""Perspective's discovery document: what Google's API clients build themselves from."""

from typing import Any

from appliance.api import perspective_attributes


def document(root_url: str, of_heads: tuple[str, ...]) -> dict[str, Any]:
    """With `root_url` as the address to send to; the attributes as they are answered here, in words."""
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": "commentanalyzer:v1alpha1",
        "name": "commentanalyzer",
        "canonicalName": "Comment Analyzer",
        "version": "v1alpha1",
        "revision": "20261121",
        "title": "Perspective Comment Analyzer API, answered by Customhouse",
        "description": _about(of_heads),
        "ownerName": "Customhouse",
        "ownerDomain": "localhost",
        "documentationLink": f"{root_url}docs",
        "protocol": "rest",
        "version_module": True,
        "fullyEncodeReservedExpansion": True,
        "rootUrl": root_url,
        "baseUrl": root_url,
        "basePath": "",
        "servicePath": "",
        "batchPath": "batch",
        "icons": {},
        "auth": {"oauth2": {"scopes": {_SCOPE: {"description": "Not used: send an API key of Customhouse."}}}},
        "parameters": _PARAMETERS,
        "resources": {
            "comments": {
                "methods": {
                    "analyze": _method("analyze", "AnalyzeComment", "Scores a comment for the requested attributes."),
                    "suggestscore": _method(
                        "suggestscore", "SuggestCommentScore", "Takes what a comment's scores should be."
                    ),
                }
            }
        },
        "schemas": _schemas(of_heads),
    }


_SCOPE = "https://www.googleapis.com/auth/userinfo.email"


def _about(of_heads: tuple[str, ...]) -> str:
    told = perspective_attributes.coverage(of_heads)
    covered = " ".join(f"{name}: {sentence}" for name, sentence in told.items())
    uncovered = ", ".join(perspective_attributes.UNCOVERED)
    return f"Attributes answered here. {covered} Answered by no model here, and refused: {uncovered}."


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


_PARAMETERS: dict[str, Any] = {
    "$.xgafv": _text("V1 error format.", location="query", enum=["1", "2"], enumDescriptions=["v1", "v2"]),
    "access_token": _text("OAuth access token.", location="query"),
    "alt": _text(
        "Data format for response.",
        location="query",
        default="json",
        enum=["json", "media", "proto"],
        enumDescriptions=["JSON; the only one here.", "", ""],
    ),
    "callback": _text("JSONP", location="query"),
    "fields": _text("Which members to include in the answer; passed over.", location="query"),
    "key": _text("Your key of Customhouse.", location="query"),
    "oauth_token": _text("OAuth 2.0 token for the current user.", location="query"),
    "prettyPrint": {
        "type": "boolean",
        "description": "Returns response with indentations and line breaks; passed over.",
        "location": "query",
        "default": "true",
    },
    "quotaUser": _text("Passed over.", location="query"),
    "uploadType": _text("Legacy upload protocol for media.", location="query"),
    "upload_protocol": _text("Upload protocol for media.", location="query"),
}


def _method(verb: str, shape: str, description: str) -> dict[str, Any]:
    return {
        "id": f"commentanalyzer.comments.{verb}",
        "path": f"v1alpha1/comments:{verb}",
        "flatPath": f"v1alpha1/comments:{verb}",
        "httpMethod": "POST",
        "description": description,
        "parameters": {},
        "parameterOrder": [],
        "request": {"$ref": f"{shape}Request"},
        "response": {"$ref": f"{shape}Response"},
        "scopes": [_SCOPE],
    }


def _object(name: str, description: str, **members: Any) -> dict[str, Any]:
    return {"id": name, "type": "object", "description": description, "properties": members}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": name}


def _map(name: str, description: str) -> dict[str, Any]:
    return {"type": "object", "description": description, "additionalProperties": _ref(name)}


def _list(items: dict[str, Any], description: str) -> dict[str, Any]:
    return {"type": "array", "description": description, "items": items}


def _number(description: str) -> dict[str, Any]:
    return {"type": "number", "format": "float", "description": description}


def _offset(description: str) -> dict[str, Any]:
    return {"type": "integer", "format": "int32", "description": description}


def _flag(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description}


def _schemas(of_heads: tuple[str, ...]) -> dict[str, Any]:
    names = ", ".join(perspective_attributes.coverage(of_heads))
    languages = _list({"type": "string"}, "Codes of ISO 639 or BCP 47; without them the language is detected.")
    tokens = {
        "clientToken": _text("Answered as it was sent."),
        "sessionId": _text("Kept with the event."),
        "communityId": _text("Kept with the event."),
    }
    kind = _text("PROBABILITY.", enum=["SCORE_TYPE_UNSPECIFIED", "PROBABILITY"], enumDescriptions=["", ""])
    made = [
        _object(
            "AnalyzeCommentRequest",
            "A comment, and what is asked of it.",
            comment=_ref("TextEntry"),
            context=_ref("Context"),
            requestedAttributes=_map("AttributeParameters", f"Attribute → parameters. Answered here: {names}."),
            spanAnnotations=_flag("Scores for each sentence, too."),
            languages=languages,
            doNotStore=_flag("Keep no tokens with the event. The text is never stored."),
            dropUnsupportedAttributes=_flag("Leave out what is not answered, instead of refusing."),
            **tokens,
        ),
        _object(
            "AnalyzeCommentResponse",
            "The scores.",
            attributeScores=_map("AttributeScores", "Attribute, as it was requested → its scores."),
            languages=_list({"type": "string"}, "As they were given, else the one detected."),
            detectedLanguages=_list({"type": "string"}, "Where none were given; und: it could not be told."),
            clientToken=tokens["clientToken"],
        ),
        _object(
            "SuggestCommentScoreRequest",
            "What a comment's scores should be.",
            comment=_ref("TextEntry"),
            context=_ref("Context"),
            attributeScores=_map("AttributeScores", "Attribute → its scores."),
            languages=languages,
            doNotStore=_flag("Keep nothing."),
            **tokens,
        ),
        _object(
            "SuggestCommentScoreResponse",
            "Taken.",
            clientToken=tokens["clientToken"],
            requestedLanguages=_list({"type": "string"}, "As they were given."),
            detectedLanguages=_list({"type": "string"}, "Where none were given."),
        ),
        _object(
            "TextEntry",
            "A text.",
            text=_text("UTF-8, of 20,480 bytes at most."),
            type=_text(
                "Of HTML the tags are passed over; offsets are those of the text as it was sent.",
                enum=["TEXT_TYPE_UNSPECIFIED", "PLAIN_TEXT", "HTML"],
                enumDescriptions=["PLAIN_TEXT", "Plain text.", "HTML."],
            ),
        ),
        _object(
            "Context",
            "What the comment stands in; passed over.",
            entries=_list(_ref("TextEntry"), "Earlier comments."),
            articleAndParentComment=_ref("ArticleAndParentComment"),
        ),
        _object(
            "ArticleAndParentComment",
            "Passed over.",
            article=_ref("TextEntry"),
            parentComment=_ref("TextEntry"),
        ),
        _object(
            "AttributeParameters",
            "How an attribute is asked for.",
            scoreType=kind,
            scoreThreshold=_number("A lower score is left out."),
        ),
        _object(
            "AttributeScores",
            "Of one attribute.",
            summaryScore=_ref("Score"),
            spanScores=_list(_ref("SpanScore"), "Of the sentences, or of the whole."),
        ),
        _object(
            "SpanScore",
            "Of a part of the text.",
            begin=_offset("In code points."),
            end=_offset("In code points, exclusive."),
            score=_ref("Score"),
        ),
        _object("Score", "A probability.", value=_number("0 to 1."), type=kind),
    ]
    return {one["id"]: one for one in made}
