"""Option files: reading, inheritance, overrides, validation.

``extends: other.yml`` (or a list of files; later ones take precedence) inherits options from
other files. ``--force_yml a:b=value`` overrides one option; the value is parsed as YAML, never
executed. Errors are one line each: the file, the option, the nearest valid name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from vheatir._paths import options_folder
from vheatir.archs import ARCHS, FOREIGN
from vheatir.data.names import read_text
from vheatir.errors import VHeatIRError
from vheatir.image_io import StrPath
from vheatir.plugins import adopt_registered, import_modules
from vheatir.training.basicsr_options import Key, OptionError, section_in, translate
from vheatir.training.option_errors import validate
from vheatir.training.schema import Options
from vheatir.training.sections import as_list

__all__ = ["Options", "load_options"]

_FORCE = "--force_yml"


def load_options(path: StrPath, force: Sequence[str] = (), imports: Sequence[str] = ()) -> Options:
    """Read an option file, and import the modules that it or the caller names.

    Args:
        path: a YAML file; a relative path is looked up in the working directory, then in the
            folder that contains the project's ``options/``.
        force: overrides ``"a:b=value"``, applied in order.
        imports: modules to import besides those of the option ``imports``.

    Raises:
        VHeatIRError: a missing file, invalid YAML, an unknown option, a value out of range, or a
            module that cannot be imported.

    Example:
        >>> options = load_options("options/quickstart.yml", ["train:total_iter=100"])
        >>> options.task, options.train.total_iter
        ('denoise_color', 100)
    """
    file = _find_file(path)
    origins: dict[Key, str] = {}
    data = _read(file, origins, ())
    for override in force:
        _apply_override(data, origins, override)
    _import_modules(data, imports, file)
    try:
        translation = translate(data)
    except OptionError as error:
        raise VHeatIRError(f"{origins.get(error.key, file)}: {error}") from None
    options = validate(Options, translation.data, str(file), origins, written=translation.written)
    options._ignored = tuple(translation.ignored)
    network = options.network_g
    if network.type not in FOREIGN:  # whose arguments build_network checks
        model = signature_model(network.type)
        validate(model, network.kwargs, str(file), origins, prefix=("network_g",))
    return options


def in_full(dumped: dict[str, Any]) -> dict[str, Any]:
    """Return options dumped by an earlier release with the options that have been added since."""
    try:
        return Options.model_validate(dumped).dump()
    except ValidationError:
        return dumped


def _import_modules(data: dict[str, Any], more: Sequence[str], file: Path) -> None:
    """Import the modules that the options and the command line name; adopt the network named."""
    own = as_list(data.get("imports")) or []
    if not isinstance(own, list) or not all(isinstance(name, str) for name in own):
        return  # reported with the other invalid values
    names = list(dict.fromkeys([*own, *more]))
    if names:
        data["imports"] = names
        import_modules(names, [file.resolve().parent])
    kind = section_in(data, "network_g").get("type")
    if isinstance(kind, str) and kind not in ARCHS:
        adopt_registered(kind)


def changed_options(before: Any, now: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """Return (option, before, now) for every option that differs."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [] if before == now else [(key, before, now)]
    changes = []
    for name in sorted(before.keys() | now.keys()):
        inner = f"{key}:{name}" if key else name
        changes += changed_options(before.get(name), now.get(name), inner)
    return changes


# --- files ---------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2 numbers that rejects duplicate keys.

    PyYAML follows YAML 1.1, where ``1e-3`` is a string and ``4:2:0`` the number 14520.
    """

    # While composing: constructing a mapping that is merged (<<) elsewhere may add its keys twice.
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a plain word", key_node.start_mark
                )
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return node


_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?(0|[1-9][0-9_]*)$",
    "tag:yaml.org,2002:float": r"[-+]?(([0-9][0-9_]*)?\.[0-9]+|[0-9][0-9_]*\.?)([eE][-+]?[0-9]+)?$"
    r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$",
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list("-+.0123456789"))


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise VHeatIRError(f"{source}{where}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise VHeatIRError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None


def _find_file(path: StrPath) -> Path:
    given = Path(path).expanduser()
    own = options_folder().parent / given
    for candidate in (given, own):
        if candidate.is_file():
            return candidate
    raise _missing_file(given, own.parent, "option file")


def _missing_file(path: Path, folder: Path, kind: str) -> VHeatIRError:
    names = sorted(p.name for p in folder.glob("*.yml")) if folder.is_dir() else []
    near = get_close_matches(path.name, names, n=1, cutoff=0.5)
    hint = f"did you mean {str(path.parent / near[0])!r}?" if near else "give an existing .yml file"
    return VHeatIRError(f"{kind} {str(path)!r} does not exist: {hint}")


def _read(file: Path, origins: dict[Key, str], chain: tuple[Path, ...]) -> dict[str, Any]:
    """Read ``file`` and what it extends; record the file of each option in ``origins``."""
    this = file.resolve()
    if this in chain:
        circle = " -> ".join(p.name for p in (*chain[chain.index(this) :], this))
        raise VHeatIRError(f"{file}: circular 'extends': {circle}; remove one of them")
    own = _plain(_parse_yaml(read_text(file, "option file"), str(file)), str(file))
    if not isinstance(own, dict):
        raise VHeatIRError(f"{file}: an option file is a mapping of options, such as 'name: test'")
    parents = own.pop("extends", None)
    parents = [parents] if isinstance(parents, str) else parents or []
    if not isinstance(parents, list) or not all(isinstance(p, str) for p in parents):
        raise VHeatIRError(f"{file}: 'extends' must be a file name or a list of file names")
    merged: dict[str, Any] = {}
    for name in parents:
        parent = file.parent / name
        if not parent.is_file():
            raise _missing_file(parent, parent.parent, f"{file}: extended file")
        merge(merged, _read(parent, origins, (*chain, this)))
    _record_origins(own, (), str(file), origins)
    merge(merged, own)
    return merged


def _plain(value: Any, source: str, depth: int = 0) -> Any:
    """Deep-copy ``value``, so that YAML aliases share nothing."""
    if depth > 16:
        raise VHeatIRError(f"{source}: nested too deeply: no section of options needs 16 levels")
    if isinstance(value, dict):
        return {str(key): _plain(item, source, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, source, depth + 1) for item in value]
    return value


def merge(base: dict[str, Any], own: dict[str, Any]) -> None:
    """Merge ``own`` into ``base``: dicts key by key; other values are replaced."""
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = value


def _record_origins(value: Any, key: Key, file: str, origins: dict[Key, str]) -> None:
    origins[key] = file
    if isinstance(value, dict):
        for name, item in value.items():
            _record_origins(item, (*key, name), file, origins)


# --- overrides -----------------------------------------------------------------------------------


def _apply_override(data: dict[str, Any], origins: dict[Key, str], override: str) -> None:
    source = f"{_FORCE} {override!r}"
    key_text, equals, value_text = override.partition("=")
    key = tuple(part.strip() for part in key_text.split(":"))
    if not equals or not all(key):
        raise VHeatIRError(f"{source}: write section:option=value, such as train:total_iter=100")
    if key == ("extends",):
        raise VHeatIRError(f"{source}: 'extends' works inside option files only")
    value = _plain(_parse_yaml(value_text, source), source)
    section = data
    for depth, part in enumerate(key[:-1]):
        if section.get(part) is None:
            section[part] = {}
            origins[key[: depth + 1]] = _FORCE
        section = section[part]
        if not isinstance(section, dict):
            name = ":".join(key[: depth + 1])
            raise VHeatIRError(f"{source}: {name!r} is a value, not a section")
    section[key[-1]] = value
    _record_origins(value, key, _FORCE, origins)


# --- networks ------------------------------------------------------------------------------------


def signature_model(network_type: str) -> type[BaseModel]:
    """Return a pydantic model of the constructor arguments of ``network_type``, and ``size``."""
    constructor = ARCHS[network_type].__init__  # type: ignore[misc]
    hints = get_type_hints(constructor)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if p.default is p.empty else p.default)
        for name, p in inspect.signature(constructor).parameters.items()
        if name != "self" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    if hasattr(ARCHS[network_type], "SIZES"):
        fields["size"] = (str | None, None)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
    return create_model("network_g", __config__=config, **fields)
