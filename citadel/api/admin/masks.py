"""Field masks as SPIRE's API has them: messages with a bool for each field of another message."""

from __future__ import annotations

from typing import Any


def masked(message: Any, mask: Any | None, *, always: str) -> Any:  # Any: fields go by their names
    """Only the fields that `mask` names, and `always`; the whole message if there is no mask."""
    if mask is None:
        return message
    chosen = type(message)()
    _copy(message, chosen, always)
    copy_masked(message, chosen, mask)
    return chosen


def mask_of(request: Any, name: str = "output_mask") -> Any | None:
    return getattr(request, name) if request.HasField(name) else None


def copy_masked(source: Any, target: Any, mask: Any) -> None:
    """Make the fields of `target` that `mask` names what they are in `source`, set or not."""
    for field in mask.DESCRIPTOR.fields:
        if getattr(mask, field.name):
            _copy(source, target, field.name)


def _copy(source: Any, target: Any, name: str) -> None:
    field = source.DESCRIPTOR.fields_by_name[name]
    target.ClearField(name)
    if field.is_repeated:
        getattr(target, name).extend(getattr(source, name))
    elif field.message_type is None:
        setattr(target, name, getattr(source, name))
    elif source.HasField(name):
        getattr(target, name).CopyFrom(getattr(source, name))
