"""Validate options; turn pydantic's errors into one-line messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from vheatir.errors import VHeatIRError, unknown_name
from vheatir.training.basicsr_options import STOCK_NAMES, Key, section_of

_Model = TypeVar("_Model", bound=BaseModel)


def validate(
    model: type[_Model],
    data: Mapping[str, Any],
    file: str,
    origins: Mapping[Key, str],
    *,
    prefix: Key = (),
    written: Mapping[Key, Key] | None = None,
) -> _Model:
    """Return options as a model.

    Args:
        model: the model.
        data: the options.
        file: the option file.
        origins: file or command-line flag that set each option.
        prefix: path of these options in the file.
        written: the name in the file of each option that was renamed.

    Raises:
        VHeatIRError: the options do not fit the model; in one line, about the first problem.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False)
    # a typo often makes another option missing: report the typo
    details = sorted(found, key=lambda detail: detail["type"] != "extra_forbidden")
    paths = [_path(detail, data) for detail in details]
    first, inner = details[0], paths[0]
    path = _as_written((*prefix, *inner), written or {})
    source = next((origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in origins), file)
    if first["type"] == "extra_forbidden":
        text = _unknown_option(path, section_of(inner[:-1]), model)
    else:
        # each member of a union reports its own error
        same = [d for d, other in zip(details, paths, strict=True) if other == inner]
        text = _invalid_value(":".join(path), same)
    others = set(paths) - {inner}
    more = f" (and {len(others)} more)" if others else ""
    raise VHeatIRError(" ".join(f"{source}: {text}{more}".split()))


def _path(detail: Any, data: Any) -> Key:
    """Return the option of a problem: pydantic's location without the names of union members."""
    missing = detail["loc"][-1:] if detail["type"] == "missing" else ()
    path, value = [], data
    for part in detail["loc"][: len(detail["loc"]) - len(missing)]:
        if isinstance(part, int) or (isinstance(value, dict) and part in value):
            path.append(str(part))
            value = value[part] if isinstance(value, dict | list) else None
    return *path, *map(str, missing)


def _as_written(path: Key, written: Mapping[Key, Key]) -> Key:
    """Return the path of an option as the file has it: the option or its section was renamed."""
    for length in range(len(path), 0, -1):
        if path[:length] in written:
            return *written[path[:length]], *path[length:]
    return path


def _unknown_option(path: Key, section: Key, model: type[BaseModel]) -> str:
    key, options = path[-1], list(_options_of(model))
    place = ":".join(path[:-1])
    homes = [":".join(option) for option in options if option[-1] == key]
    if homes:
        where = place or "the top level"
        return f"option {key!r} does not belong in {where}: use {' or '.join(homes[:3])}"
    allowed = {option[-1] for option in options if option[:-1] == section}
    allowed |= {*STOCK_NAMES.get(section_of(path[:-1]), ())}
    allowed |= {"extends"} if len(path) == 1 else set()
    return f"{f'{place}: ' if place else ''}{unknown_name('option', key, allowed)}"


def _options_of(model: type[BaseModel], prefix: Key = ()) -> Iterator[Key]:
    """Yield the path of every option of a model and of the sections in it."""
    for name, field in model.model_fields.items():
        yield (*prefix, name)
        for section in _sections_in(field.annotation):
            yield from _options_of(section, (*prefix, name))


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    arguments = get_args(annotation)
    # In Python 3.10 list[int] is an instance of type, but issubclass raises for it.
    if not arguments and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in arguments:
        yield from _sections_in(argument)


def _invalid_value(option: str, details: list[Any]) -> str:
    first = details[0]
    if first["type"] == "missing":
        return f"option {option!r} is missing: add it"
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"])
        value = f" is {_shorten(first['input'])}: it " if message.startswith("must ") else ": "
        return f"option {option!r}{value}{message}" if option else message
    if len(details) == 1 and first["type"] in ("literal_error", "enum"):
        allowed = re.findall(r"'([^']+)'", first["ctx"]["expected"])
        if allowed:
            return str(unknown_name(f"value of option {option!r}:", first["input"], allowed))
    messages = dict.fromkeys(
        re.sub(r"a valid dictionary or instance of \w+", "a section of options", detail["msg"])
        .replace("Input should be", "must be")
        .split(", unable to parse")[0]
        for detail in details
    )
    return f"option {option!r} is {_shorten(first['input'])}: it {' or '.join(messages)}"


def _shorten(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
