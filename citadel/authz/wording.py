"""What is wrong with a document, in words for who wrote it: pydantic's findings with the nearest known name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeGuard, get_args

from pydantic import BaseModel, ValidationError

from citadel.authz.load.findings import nearest

Place = tuple[int | str, ...]
_MOST_TOLD = 20
_OF_A_UNION = {"list[str]": "expected text, or a list of texts", "int": "expected text, or a whole number"}
"""A field may be text or something else, and pydantic tells of both: the tag of the other, and what to say."""


def findings(error: ValidationError, kind: type[BaseModel]) -> list[tuple[Place, str]]:
    """Everything that is wrong with a document that should be `kind`: where, and what."""
    return findings_among(error.errors(include_url=False, include_input=False), kind)


def findings_among(errors: Iterable[Any], kind: type[BaseModel] | None = None) -> list[tuple[Place, str]]:
    """The same of what pydantic lists; without `kind`, no nearest name can be told."""
    told: dict[Place, str] = {}
    models = set() if kind is None else {one.__name__ for one in _below(kind)}
    found = [(tuple(one["loc"]), one) for one in errors]
    unions = {place[:at]: _OF_A_UNION[part] for place, _ in found for at, part in enumerate(place) if _is_tag(part)}
    tried = {place[:at] for place, _ in found for at, part in enumerate(place) if part in models}
    for where, one in found:
        if where and where[-1] == "str" and where[:-1] in tried:  # an object, or a name for it: the object counts
            continue
        place = tuple(part for part in where if part not in models)
        union = next(
            (place[:at] for at in range(len(place)) if place[:at] in unions and _is_alternative(place[at])), None
        )
        if union is not None:
            told[union] = unions[union]
        else:
            told.setdefault(place, _sentence(one, kind, place))
    return list(told.items())


def in_one_line(error: ValidationError, kind: type[BaseModel]) -> str:
    """The same as one line: `http.method: …; port: …`."""
    return joined(findings(error, kind))


def joined(found: Sequence[tuple[Place, str]]) -> str:
    """Findings in one line; of very many, the first."""
    more = [f"and {len(found) - _MOST_TOLD} more mistakes"] if len(found) > _MOST_TOLD else []
    said = [": ".join(filter(None, [".".join(map(str, place)), message])) for place, message in found[:_MOST_TOLD]]
    return "; ".join(said + more)


def _sentence(error: Any, kind: type[BaseModel] | None, place: Place) -> str:
    context = error.get("ctx") or {}
    match error["type"]:
        case "extra_forbidden":
            return "there is no such field" + nearest(str(place[-1]), known_fields(kind, place[:-1]))
        case "missing":
            return "it is missing"
        case "value_error":
            return str(context["error"])
        case "json_invalid":
            return f"it is not JSON: {context['error']}".replace("at line 1 column", "at column")
        case "string_type" | "string_sub_type" | "string_unicode":
            return "expected text"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "expected an object"
        case "list_type":
            return "expected a list"
        case "int_type" | "int_parsing" | "int_from_float" | "int_parsing_size":
            return "expected a whole number"
        case "float_type" | "float_parsing" | "finite_number":
            return "expected a number"
        case "bool_type" | "bool_parsing":
            return "expected true or false"
        case "literal_error" | "enum":
            return f"expected {context['expected']}"
        case "string_too_short" | "too_short":
            return "it is empty"
        case "too_long" | "string_too_long":
            return f"it is too long: at most {context['max_length']}"
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            return _beyond(error["type"], context)
        case _:
            return str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "expected")


def _beyond(which: str, context: Any) -> str:
    words = {"ge": "a number not below", "gt": "a number above", "le": "a number not above", "lt": "a number below"}
    short = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le", "less_than": "lt"}[which]
    return f"expected {words[short]} {context[short]}"


def known_fields(kind: type[BaseModel] | None, around: Sequence[int | str]) -> list[str]:
    """The fields that a place has. Numbers, and names in a mapping, stay where they are."""
    models: list[type[BaseModel]] = [] if kind is None else [kind]
    for part in around:
        inner = [
            one
            for model in models
            for name, field in model.model_fields.items()
            if part == (field.alias or name)
            for one in _models(field.annotation)
        ]
        models = inner or models
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def _is_tag(part: int | str) -> TypeGuard[str]:
    return part in _OF_A_UNION


def _is_alternative(part: int | str) -> bool:
    return part == "str" or part in _OF_A_UNION


def _below(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for field in kind.model_fields.values():
        for one in _models(field.annotation):
            yield one
            yield from _below(one)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for one in get_args(annotation):
        yield from _models(one)
