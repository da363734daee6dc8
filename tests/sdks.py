"""The API's own document, as the clients under sdk/ are held to it."""

import re
import types
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

ALSO = {("POST", "/v1/moderations"): ("POST", "/omnimod/v1/moderations")}
"""Where the body of a path that two services share is documented for ours."""

GROUPS = ("Moderation", "Jobs", "Usage", "Account", "Webhooks", "OmniMod account")
"""Tags of which the clients claim every route."""
LEFT_OUT = {
    "moderate_prompt": "moderate_text by its first name",
    "create_moderation": "asked by both, and compared with its twin under /omnimod",
}


class Asked(msgspec.Struct, frozen=True):
    """A request that a client makes."""

    name: str
    """Of the client's method."""
    verb: str
    path: str
    query: list[str] = []
    headers: list[str] = []
    json: dict[str, Any] | None = None
    parts: list[str] | None = None


class Document:
    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self.operations: dict[tuple[str, str], dict[str, Any]] = {
            (verb.upper(), path): operation
            for path, item in document["paths"].items()
            for verb, operation in item.items()
            if verb in ("get", "post", "put", "patch", "delete")
        }

    def operation(self, asked: Asked) -> dict[str, Any] | None:
        """That of the path with the fewest parameters."""
        found = [
            (path.count("{"), key)
            for key in self.operations
            for verb, path in [key]
            if verb == asked.verb and re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", path), asked.path)
        ]
        if not found:
            return None
        key = min(found)[1]
        return self.operations[ALSO.get(key, key)]

    def faults(self, asked: Asked) -> Iterator[str]:
        """What of this request is not in the document."""
        operation = self.operation(asked)
        if operation is None:
            yield f"{asked.name}: there is no {asked.verb} {asked.path}"
            return
        parameters = {one["name"].lower() for one in operation.get("parameters", [])}
        yield from (f"{asked.name}: no parameter {name}" for name in asked.query if name not in parameters)
        takes_key, sends_key = "idempotency-key" in parameters, "idempotency-key" in asked.headers
        if takes_key != sends_key:
            yield f"{asked.name}: an Idempotency-Key is {'taken' if takes_key else 'not taken'}"
        content = operation.get("requestBody", {}).get("content", {})
        for kind, given in (("application/json", asked.json), ("multipart/form-data", asked.parts)):
            if given is None:
                continue
            if kind not in content:
                yield f"{asked.name}: no body of type {kind}"
                continue
            schema = self.resolved(content[kind]["schema"])
            members: dict[str, Any] = schema.get("properties", {})
            yield from (f"{asked.name}: no member {name}" for name in given if name not in members)
            yield from (f"{asked.name}: {name} is wanted" for name in schema.get("required", []) if name not in given)

    def answer(self, asked: Asked) -> dict[str, Any] | None:
        """The schema of a success, or None where nothing is answered."""
        operation = self.operation(asked)
        assert operation is not None
        [response] = [said for status, said in operation["responses"].items() if status.startswith("2")]
        content = response.get("content", {})
        return content["application/json"]["schema"] if "application/json" in content else None

    def unasked(self, asked: list[Asked]) -> set[str]:
        """Operations of the groups that no request meets."""
        claimed = {
            operation["operationId"]
            for (_, path), operation in self.operations.items()
            if set(operation.get("tags", [])) & set(GROUPS) and not path.startswith("/omnimod/")
        }
        met = {operation["operationId"] for one in asked if (operation := self.operation(one)) is not None}
        return claimed - met - LEFT_OUT.keys()

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            schema = self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema

    def choices(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        """Its alternatives, one without null each."""
        schema = self.resolved(schema)
        many = schema.get("oneOf") or schema.get("anyOf")
        if many:
            return [choice for one in many for choice in self.choices(one)]
        if isinstance(schema.get("type"), list):
            return [{**schema, "type": one} for one in schema["type"]]
        return [schema]

    # --- Python's types ----------------------------------------------------------------------------------------------

    def misread(self, schema: dict[str, Any], kind: inspect.Type, at: str) -> Iterator[str]:
        """Where reading an answer of this schema as this type would fail, or reads what is not documented."""
        known = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
        for choice in self.choices(schema):
            if any(isinstance(one, inspect.AnyType) for one in known):
                continue
            fitting = [one for one in known if isinstance(one, _READ_AS.get(choice.get("type", ""), object))]
            if not fitting:
                yield f"{at}: {choice.get('type')} is read as {known}"
            elif isinstance(fitting[0], inspect.StructType):
                yield from self._misread_members(choice, fitting[0], at)
            elif isinstance(fitting[0], inspect.ListType):
                yield from self.misread(choice["items"], fitting[0].item_type, f"{at}[]")
            elif isinstance(fitting[0], inspect.DictType) and choice.get("additionalProperties"):
                yield from self.misread(choice["additionalProperties"], fitting[0].value_type, f"{at}{{}}")
            elif isinstance(fitting[0], inspect.LiteralType):
                values = choice.get("enum") or ([choice["const"]] if "const" in choice else [])
                yield from (f"{at}: {value!r} is unknown" for value in values if value not in fitting[0].values)

    def _misread_members(self, schema: dict[str, Any], kind: inspect.StructType, at: str) -> Iterator[str]:
        documented = schema.get("properties", {})
        for field in kind.fields:
            name = f"{at}.{field.encode_name}"
            if field.encode_name not in documented:
                yield f"{name} is not documented"
                continue
            if field.required and field.encode_name not in schema.get("required", []):
                yield f"{name} may be left out"
            yield from self.misread(documented[field.encode_name], field.type, name)

    # --- TypeScript's ------------------------------------------------------------------------------------------------

    def typescript(self, schema: dict[str, Any]) -> str:
        """The type of an answer of this schema."""
        return " | ".join(dict.fromkeys(self._typescript(choice) for choice in self.choices(schema)))

    def _typescript(self, schema: dict[str, Any]) -> str:
        if "const" in schema:
            return msgspec.json.encode(schema["const"]).decode()
        if "enum" in schema:
            return " | ".join(msgspec.json.encode(one).decode() for one in schema["enum"])
        match schema.get("type"):
            case "object" if "properties" in schema:
                wanted = schema.get("required", [])
                members = schema["properties"].items()
                lines = (f"{name}{'' if name in wanted else '?'}: {self.typescript(one)}" for name, one in members)
                return f"{{ {'; '.join(lines)} }}"
            case "object":
                return f"Record<string, {self.typescript(schema.get('additionalProperties') or {})}>"
            case "array":
                return f"({self.typescript(schema['items'])})[]"
            case "integer" | "number":
                return "number"
            case "string" | "boolean" | "null" as name:
                return name
            case _:
                return "unknown"


_READ_AS: dict[str, type | types.UnionType] = {
    "object": inspect.StructType | inspect.DictType,
    "array": inspect.ListType,
    "string": inspect.StrType | inspect.LiteralType,
    "integer": inspect.IntType | inspect.FloatType,
    "number": inspect.FloatType,
    "boolean": inspect.BoolType,
    "null": inspect.NoneType,
}
