"""Shapes of what is sent to a route, in the words of the OpenAPI document: a field, a query parameter, a whole body."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Schema
from litestar.params import BodyKwarg

Uuid = Annotated[str, BodyKwarg(schema_extra={"format": "uuid"})]
"""For the members of an answer: text in this form, said in the document and nowhere else."""
Moment = Annotated[str, BodyKwarg(schema_extra={"format": "date-time"})]
"""RFC 3339, in UTC with milliseconds and Z."""


class Field(msgspec.Struct, frozen=True):
    """One member of a body, or one parameter. What no flat kind can say is a `shape`."""

    name: str
    description: str
    is_required: bool = False
    is_file: bool = False
    media_types: str = ""
    """Of a file, with commas."""
    kind: OpenAPIType = OpenAPIType.STRING
    longest: int | None = None
    shortest: int | None = None
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    is_list: bool = False
    """Of a parameter: several of the choices may be given, with commas between."""
    format: str | None = None
    """As JSON Schema names it: date, date-time, uuid, uri."""
    pattern: str | None = None
    default: Any = None
    is_nullable: bool = False
    may_be_empty: bool = False
    """Empty text stands for none, whatever the bounds and the format say."""
    shape: Any = None
    """A type, such as `list[Item]` or a Struct; it replaces the kind and its bounds."""
    example: Any = None


@dataclass
class _Literal(Schema):
    """A schema that is already written. The framework's own class knows no member that it did not write itself."""

    written: Any = None

    def to_schema(self) -> dict[str, Any]:
        return self.written


def of_field(field: Field) -> Schema:
    if field.shape is not None:
        return _Literal(written={**_written(field.shape), "description": field.description})
    listed = "|".join(field.choices) if field.is_list else ""
    kind: OpenAPIType | list[OpenAPIType] = [field.kind, OpenAPIType.NULL] if field.is_nullable else field.kind
    choices: list[Any] = [*field.choices, *([None] if field.is_nullable else [])]
    bounded = Schema(
        type=kind,
        description=field.description,
        enum=choices if field.choices and not listed else None,
        format=OpenAPIFormat(field.format) if field.format else None,
        pattern=f"^({listed})(,({listed}))*$" if listed else field.pattern,
        min_length=field.shortest,
        max_length=field.longest,
        minimum=_number(field.least, field.kind),
        maximum=_number(field.most, field.kind),
        default=field.default,
        content_media_type="application/octet-stream" if field.is_file else None,
    )
    if not field.may_be_empty:
        return bounded
    bounded.description = None
    return Schema(description=field.description, any_of=[bounded, Schema(type=OpenAPIType.STRING, max_length=0)])


def of_fields(fields: list[Field], either: tuple[str, ...] = (), *, is_closed: bool = False) -> Schema:
    """An object of these: exactly one of `either` is there, and when it is closed nothing else is."""
    there = [field.name for field in fields if field.name in either]
    always = [field.name for field in fields if field.is_required] + (there if len(there) == 1 else [])
    return Schema(
        type=OpenAPIType.OBJECT,
        properties={field.name: of_field(field) for field in fields},
        required=always or None,
        one_of=[Schema(required=[name]) for name in there] if len(there) > 1 else None,
        additional_properties=False if is_closed else None,
    )


def _number(bound: float | None, kind: OpenAPIType) -> float | None:
    return int(bound) if bound is not None and kind is OpenAPIType.INTEGER else bound


def of_type(kind: Any) -> Schema:
    """A type of our own, written out: a Struct's members, with what `msgspec.Meta` says of each."""
    return _Literal(written=_written(kind))


def _written(kind: Any) -> dict[str, Any]:
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="{name}")
    return _inlined(schema, parts)


def _inlined(schema: Any, parts: dict[str, Any]) -> Any:
    """Without references, because an operation cannot add to the document's components. No type may hold itself."""
    if isinstance(schema, list):
        return [_inlined(one, parts) for one in schema]  # pyright: ignore[reportUnknownVariableType]  # JSON
    if not isinstance(schema, dict):
        return schema
    members: dict[str, Any] = schema  # pyright: ignore[reportUnknownVariableType]  # JSON
    if "$ref" in members:
        return {**_inlined(parts[members["$ref"]], parts), **{k: v for k, v in members.items() if k != "$ref"}}
    return {name: _inlined(value, parts) for name, value in members.items()}
