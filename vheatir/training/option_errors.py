"""Turn pydantic validation errors of an option file into one-line messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from vheatir.errors import VHeatIRError, unknown_name
from vheatir.training.basicsr_options import STOCK_NAMES
from vheatir.training.sections import Datasets, TrainSet, ValSet


def explain(
    error: ValidationError,
    model: type[BaseModel],
    prefix: tuple[str, ...],
    file: str,
    origins: Mapping[tuple[str, ...], str],
    written: Mapping[tuple[str, ...], tuple[str, ...]] | None = None,
) -> VHeatIRError:
    """Turn a validation error into a one-line error about its first problem.

    Args:
        error: pydantic's error.
        model: the model that was validated.
        prefix: path of that model's options in the file.
        file: the option file.
        origins: file or command-line flag that set each option.
        written: the name in the file of each option that was renamed.
    """
    details = error.errors(include_url=False)
    # a typo often makes another option missing: report the typo
    details.sort(key=lambda detail: detail["type"] != "extra_forbidden")
    first = details[0]
    inner, section = _resolve_location(model, first["loc"])
    path = _as_written((*prefix, *inner), written or {})
    source = next((origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in origins), file)
    if first["type"] == "extra_forbidden":
        text = _unknown_option(path, section, model)
    else:
        # each member of a union reports its own error
        same = [d for d in details if _resolve_location(model, d["loc"])[0] == inner]
        text = _invalid_value(":".join(path), same)
    others = {_resolve_location(model, d["loc"])[0] for d in details} - {inner}
    more = f" (and {len(others)} more)" if others else ""
    return VHeatIRError(" ".join(f"{source}: {text}{more}".split()))


def _as_written(
    path: tuple[str, ...], written: Mapping[tuple[str, ...], tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the path of an option as the file has it: the option or its section was renamed."""
    for length in range(len(path), 0, -1):
        if path[:length] in written:
            return *written[path[:length]], *path[length:]
    return path


def _resolve_location(
    model: type[BaseModel], loc: tuple[int | str, ...]
) -> tuple[tuple[str, ...], Any]:
    """Return an option's path, without pydantic's union member names, and its section."""
    path: list[str] = []
    section: type[BaseModel] = model
    inside: type[BaseModel] | None = model
    is_name = False
    for part in loc:
        if isinstance(part, int):
            path.append(str(part))
        elif is_name:
            path.append(part)
            is_name = False
        elif inside is not None and not _is_tag(inside, part):
            section = inside
            path.append(part)
            inside = _section_of(section, part)
            field = section.model_fields.get(part)
            is_name = inside is not None and field is not None and _is_mapping(field.annotation)
    return tuple(path), section


def _is_tag(section: type[BaseModel], part: str) -> bool:
    """Whether a part of a location is not an option, but says which kind of data set it is."""
    return section in (TrainSet, ValSet) and part in ("train", "val")


def _is_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict or any(map(_is_mapping, get_args(annotation)))


def _section_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the section model of option ``name`` of ``model``; None for a plain value."""
    if name in model.model_fields:
        return next(_sections_in(model.model_fields[name].annotation), None)
    if model is Datasets and name.startswith(("train_", "val_")):
        return TrainSet if name.startswith("train_") else ValSet
    return None


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    arguments = get_args(annotation)
    # In Python 3.10 list[int] is an instance of type, but issubclass raises for it.
    if not arguments and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in arguments:
        yield from _sections_in(argument)


def _unknown_option(path: tuple[str, ...], section: type[BaseModel], root: type[BaseModel]) -> str:
    key = path[-1]
    homes = [":".join(home) for home in _paths_of(root, key, ())]
    if homes:
        return (
            f"option {key!r} does not belong in {_section_path(path)}: use {' or '.join(homes[:3])}"
        )
    home = tuple("train" if part.startswith("train_") else part for part in path[:-1])
    allowed = {*section.model_fields, *STOCK_NAMES.get(home, ())}
    allowed |= {"extends"} if len(path) == 1 else set()
    place = f"{_section_path(path)}: " if len(path) > 1 else ""
    return f"{place}{unknown_name('option', key, allowed)}"


def _section_path(path: tuple[str, ...]) -> str:
    return ":".join(path[:-1]) or "the top level"


def _paths_of(
    model: type[BaseModel], key: str, prefix: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    """Yield every path in the schema that ends in an option called ``key``."""
    for name in model.model_fields:
        if name == key:
            yield (*prefix, name)
        section = _section_of(model, name)
        if section is not None:
            yield from _paths_of(section, key, (*prefix, name))


def _invalid_value(option: str, details: list[Any]) -> str:
    first = details[0]
    if first["type"] == "missing":
        return f"option {option!r} is missing: add it"
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"])
        about_value = message.startswith("must ")
        value = f" is {_shorten(first['input'])}: it " if about_value else ": "
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
