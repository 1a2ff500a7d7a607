"""Extension providers as they are configured: `[[authorization.providers]]`, one table for each."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError, ValidationInfo

from citadel.config.values import Duration, OptionalPath

_HOST = r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\z"
_HEADER = re.compile(r"\*?[A-Za-z0-9!#$%&'+\-.^_`|~]*\*?")
_MOST = 100


def _header_names(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list | tuple):
        raise ValueError("expected a list of header names")
    for one in given:
        if not isinstance(one, str) or not one or not _HEADER.fullmatch(one):
            raise ValueError(f"{one!r} is not a header's name, nor 'abc*', '*abc' or '*'")
    return tuple(given)


_Names = Annotated[tuple[str, ...], PlainValidator(_header_names)]


class ProviderSettings(BaseModel):
    """Somebody whom CUSTOM policies ask (Istio: MeshConfig.extensionProviders). It fails closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(min_length=1, max_length=253)
    protocol: Literal["grpc", "http"]
    host: str = Field(pattern=_HOST)
    port: int = Field(ge=1, le=65535)
    tls: bool = False
    ca_file: OptionalPath = None
    timeout: Duration = Field("600ms", validate_default=True)
    status_on_error: int = Field(503, ge=400, le=599)
    path_prefix: str = Field("", pattern=r"^(/[!-~]*)?\z")
    include_request_headers_in_check: _Names = ()
    include_additional_headers_in_check: dict[str, str] = Field(default_factory=dict)
    headers_to_upstream_on_allow: _Names = ()
    headers_to_downstream_on_allow: _Names = ()
    headers_to_downstream_on_deny: _Names = ()


def _providers(given: Any, info: ValidationInfo) -> tuple[ProviderSettings, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(one, dict | ProviderSettings) for one in given):
        raise ValueError("it is a list of tables: write [[authorization.providers]] for each provider")
    if len(given) > _MOST:
        raise ValueError(f"there are more than {_MOST} providers")
    found: list[ProviderSettings] = []
    wrong: list[str] = []
    for number, table in enumerate(given):
        if isinstance(table, ProviderSettings):
            found.append(table)
            continue
        name = repr(table["name"]) if isinstance(table.get("name"), str) else f"number {number + 1}"
        try:
            found.append(ProviderSettings.model_validate(table, context=info.context))
        except ValidationError as error:
            wrong += (f"provider {name}: {_sentence(one)}" for one in error.errors(include_url=False))
            continue
        if found[-1].timeout.total_seconds() <= 0:
            wrong.append(f"provider {name}: its timeout is not positive")
        if found[-1].ca_file is not None and not found[-1].tls:
            wrong.append(f"provider {name}: ca_file is set, but tls is not true")
        if [one.name for one in found].count(found[-1].name) > 1:
            wrong.append(f"there are two providers {name}")
    if wrong:
        raise ValueError("; ".join(wrong))
    return tuple(found)


def _sentence(detail: Any) -> str:
    where = ".".join(map(str, detail["loc"]))
    match detail["type"]:
        case "missing":
            return f"{where} is missing"
        case "extra_forbidden":
            return f"there is no {where}; there are {', '.join(ProviderSettings.model_fields)}"
        case "value_error":
            return f"{where}: {detail['ctx']['error']}"
        case _:
            return f"{where}: {detail['msg'].replace('Input should be', 'it must be')}"


def _names(providers: tuple[ProviderSettings, ...]) -> list[str]:
    return [one.name for one in providers]


ExtensionProviders = Annotated[
    tuple[ProviderSettings, ...], PlainValidator(_providers), PlainSerializer(_names, return_type=list)
]
