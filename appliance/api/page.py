"""The OpenAPI document as a page of our own: no script, and nothing fetched from anywhere."""

import json
from html import escape
from typing import Any, cast

Document = dict[str, Any]

_METHODS = ("get", "post", "put", "patch", "delete")

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #2563eb; }
body { font: 15px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: .2rem }
h2 { margin-top: 2.6rem; border-bottom: 1px solid var(--line) }
h3 { font-weight: 600; margin: .7rem 0 .2rem }
h3 b { font: 600 .8em ui-monospace, monospace; text-transform: uppercase; background: var(--accent); color: #fff;
  border-radius: .3rem; padding: .1rem .45rem; margin-right: .5rem }
a { color: var(--accent); text-decoration: none }
nav a { display: inline-block; margin-right: 1rem }
section { margin: 1.2rem 0; padding: .2rem 1rem .8rem; border: 1px solid var(--line); border-radius: .5rem }
code, pre { font: .87em/1.45 ui-monospace, monospace }
pre { background: var(--soft); padding: .7rem; border-radius: .4rem; white-space: pre-wrap; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line) }
details { margin: .3rem 0 }
summary { cursor: pointer }
.soft { opacity: .7 }
"""


def render(document: Document) -> str:
    """The whole page."""
    info = document["info"]
    operations = [
        (path, method, cast("Document", item[method]))
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    ]
    tags = list(dict.fromkeys(tag for _, _, operation in operations for tag in operation.get("tags", ["Other"])))
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} <span class=soft>{escape(info['version'])}</span></h1>",
        f"<p>{_prose(info.get('description', ''))}</p>",
        "<nav>" + "".join(f"<a href='#{escape(_slug(tag))}'>{escape(tag)}</a>" for tag in tags),
        "<a href='#deliveries'>Deliveries</a><a href='#errors'>Errors</a>",
        "<a href='/schema/openapi.json'>openapi.json</a><a href='/schema/openapi.yaml'>openapi.yaml</a></nav>",
    ]
    for tag in tags:
        parts.append(f"<h2 id='{escape(_slug(tag))}'>{escape(tag)}</h2>")
        parts += [_operation(document, *one) for one in operations if tag in one[2].get("tags", ["Other"])]
    webhooks: dict[str, Document] = document.get("webhooks", {})
    parts.append("<h2 id=deliveries>Deliveries</h2>")
    parts += [_delivery(one["post"]) for one in webhooks.values()]
    parts.append(_errors(document))
    return "\n".join(parts)


def _delivery(operation: Document) -> str:
    """What is sent to a webhook of the reader's own."""
    content: dict[str, Document] = operation["requestBody"]["content"]
    examples: dict[str, Document] = content["application/json"]["examples"]
    shown = "".join(f"<pre>{_json(example['value'])}</pre>" for example in examples.values())
    return (
        f"<section id='{escape(operation['operationId'])}'><h3><b>post</b>your address</h3>"
        f"<p><strong>{escape(operation['summary'])}.</strong> {_prose(operation['description'])}</p>"
        f"{_parameters(operation['parameters'])}{_body(content)}{shown}</section>"
    )


def _errors(document: Document) -> str:
    """Every code that the document knows, also those that no route answers."""
    answers: dict[str, Document] = document.get("components", {}).get("responses", {})
    rows: list[str] = []
    for code, answer in answers.items():
        value = answer["content"]["application/json"]["examples"][code]["value"]
        rows.append(
            f"<tr><td><code>{escape(code)}</code><td class=soft>{value['statusCode']}"
            f"<td>{_prose(value['message'])}<td class=soft>{_prose(answer['description'])}"
        )
    return f"<h2 id=errors>Errors</h2><table><tr><th>Code<th><th>For instance<th>{''.join(rows)}</table>"


def _operation(document: Document, path: str, method: str, operation: Document) -> str:
    is_open = {} in operation.get("security", [])
    return "".join(
        (
            f"<section id='{escape(operation['operationId'])}'>",
            f"<h3><b>{method}</b><code>{escape(path)}</code></h3>",
            f"<p><strong>{escape(operation.get('summary', ''))}.</strong> {_prose(operation.get('description', ''))}",
            " <span class=soft>No key needed.</span></p>" if is_open else "</p>",
            _parameters(operation.get("parameters", [])),
            _body(operation.get("requestBody", {}).get("content", {})),
            _curl(path, method, operation, is_open),
            "".join(_response(document, code, answer) for code, answer in operation["responses"].items()),
            "</section>",
        )
    )


def _parameters(parameters: list[Document]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code><td class=soft>{escape(one['in'])}"
        f"{', required' if one.get('required') and one['in'] != 'path' else ''}"
        f"<td>{_prose(one.get('description', ''))} <span class=soft>{escape(_kind(one.get('schema', {})))}</span>"
        for one in parameters
    )
    return f"<table><tr><th>Parameter<th><th>{rows}</table>"


def _body(content: dict[str, Document]) -> str:
    if not content:
        return ""
    widest = content.get("multipart/form-data") or content["application/json"]
    schema = widest["schema"]
    required = schema.get("required", [])
    fields: dict[str, Document] = schema.get("properties", {})
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>"
        f"<td class=soft>{'file' if 'contentMediaType' in field else escape(_kind(field))}"
        f"{', required' if name in required else ''}<td>{_prose(field.get('description', ''))}"
        for name, field in fields.items()
    )
    types = ", ".join(f"<code>{escape(name)}</code>" for name in content)
    return f"<table><tr><th>Field<th><th>{rows}</table><p class=soft>Body: {types}</p>"


def _kind(schema: Document) -> str:
    """What a value has to be, in a few words."""
    if "items" in schema:
        return f"list of {_kind(schema['items']) or 'values'}{_bounds(schema, 'minItems', 'maxItems')}"
    if "enum" in schema:
        return " | ".join("null" if one is None else str(one) for one in schema["enum"])
    choices: list[Document] = schema.get("oneOf") or schema.get("anyOf") or []
    if choices:
        return " | ".join(filter(None, map(_kind, choices)))
    kind = schema.get("type", "")
    words = [
        " | ".join(cast("list[str]", kind)) if isinstance(kind, list) else str(kind),
        schema.get("format", ""),
        _bounds(schema, "minimum", "maximum"),
        _bounds(schema, "minLength", "maxLength", " characters"),
        f"default {schema['default']}" if "default" in schema else "",
    ]
    return ", ".join(word.strip() for word in words if word)


def _bounds(schema: Document, least: str, most: str, unit: str = "") -> str:
    if most not in schema:
        return ""
    return f" {schema[least]} to {schema[most]}{unit}" if least in schema else f" at most {schema[most]}{unit}"


def _curl(path: str, method: str, operation: Document, is_open: bool) -> str:
    line = ["curl", *([] if method == "get" else ["-X", method.upper()]), f'"$CUSTOMHOUSE{path}"']
    if not is_open:
        line.append('-H "Authorization: Bearer $KEY"')
    content: dict[str, Document] = operation.get("requestBody", {}).get("content", {})
    examples: dict[str, Document] = content.get("application/json", {}).get("examples") or {}
    for first in list(examples.values())[:1]:
        line.append(f"-H 'Content-Type: application/json' -d '{json.dumps(first['value'], ensure_ascii=False)}'")
    return f"<pre>{escape(' '.join(line))}</pre>"


def _response(document: Document, code: str, answer: Document) -> str:
    shown: list[str] = []
    contents: dict[str, Document] = answer.get("content") or {}
    for media_type, content in contents.items():
        examples: dict[str, Document] = content.get("examples") or {}
        for example in examples.values():
            value = example["value"]
            shown.append(f"<pre>{escape(value) if isinstance(value, str) else _json(value)}</pre>")
        shown.append(_fields(document, content.get("schema", {})) if media_type == "application/json" else "")
    names: dict[str, Document] = answer.get("headers") or {}
    if names:
        headers = ", ".join(f"<code>{escape(name)}</code>" for name in names)
        shown.append(f"<p class=soft>Headers: {headers}</p>")
    links: dict[str, Document] = answer.get("links") or {}
    if links:
        leads = ", ".join(
            f"<a href='#{escape(link['operationId'])}'>{escape(name)}</a>" for name, link in links.items()
        )
        shown.append(f"<p class=soft>Leads to: {leads}</p>")
    return (
        f"<details{' open' if code < '300' else ''}><summary><code>{escape(code)}</code> "
        f"{_prose(answer.get('description', ''))}</summary>{''.join(shown)}</details>"
    )


def _fields(document: Document, schema: Document) -> str:
    """The members of the answer's shape, with what the shape says of them."""
    name = schema.get("$ref", "").rpartition("/")[2]
    shape = document.get("components", {}).get("schemas", {}).get(name)
    if not shape or name == "ErrorBody":
        return ""
    members = ", ".join(f"<code>{escape(member)}</code>" for member in shape.get("properties", {}))
    return f"<p class=soft>{escape(shape.get('title', name))}: {members}. {_prose(shape.get('description', ''))}</p>"


def _json(value: Any) -> str:
    return escape(json.dumps(value, indent=2, ensure_ascii=False))


def _prose(text: str) -> str:
    """Text with `code` in it."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))


def _slug(text: str) -> str:
    return "tag-" + text.lower().replace(" ", "-")
