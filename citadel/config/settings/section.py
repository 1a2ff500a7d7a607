"""What a section is: a frozen table of settings, each with its default and what it is for."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


def setting(default: Any, description: str, *, reload: bool = False, **limits: Any) -> Any:
    """A setting with its default as a user would write it. `reload`: SIGHUP takes a changed value into use."""
    return Field(
        default, description=description, validate_default=True, json_schema_extra={"reload": reload}, **limits
    )


def required(description: str) -> Any:
    return Field(description=description, json_schema_extra={"reload": False})


class Section(BaseModel):
    """A table of settings: frozen, and unknown keys are mistakes. A section that is not there has its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _absent_sections_have_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: {} for name in cls.sections()} | given  # {} and not an instance: defaults need the context

    @classmethod
    def sections(cls) -> dict[str, type[Section]]:
        """The sections right below this one, by name."""
        found = {}
        for name, field in cls.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, Section):
                found[name] = kind
        return found
