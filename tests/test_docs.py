"""The documentation: links, pages, examples and the API reference, without building it."""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vheatir
from vheatir.image_io import write_image
from vheatir.training.options import load_options

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# made by the build
PAGES = sorted(set(DOCS.rglob("*.md")) - set(DOCS.glob("cards/*")) - set(DOCS.glob("gallery/*")))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
WITH_EXAMPLES = sorted(
    path for path in (ROOT / "vheatir").rglob("*.py") if ">>> " in path.read_text("utf-8")
)
# Packages whose names are all public, as vheatir's are.
PACKAGES = ("vheatir", "vheatir.archs", "vheatir.degradations", "vheatir.inference", "vheatir.ops")
# Modules of which every function and class is public.
MODULES = (
    "vheatir.basicsr", "vheatir.bundled", "vheatir.errors", "vheatir.evaluation.methods",
    "vheatir.evaluation.protocol", "vheatir.explain.influence", "vheatir.export",
    "vheatir.image_io", "vheatir.metrics", "vheatir.tasks", "vheatir.training.loop",
    "vheatir.training.options", "vheatir.weights", "vheatir.zoo",
)  # fmt: skip


def prose(page: Path) -> str:
    """Return the text of a page without its code."""
    text = re.sub(r"```(?!\{toctree\}).*?```", "", page.read_text("utf-8"), flags=re.S)
    text = re.sub(r"(?<=\n\n)(?: {4}.*\n)+", "", text)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, by GitHub's rule."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_an_example_that_is_run_shows_its_figures() -> None:
    for path in EXAMPLES:
        text = path.read_text("utf-8")
        assert ("plt.subplots" in text) == text.rstrip().endswith("plt.show()"), path.name


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES],
    ids=lambda page: str(page.relative_to(ROOT)),
)  # fmt: skip
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert not target.is_relative_to(DOCS / "gallery"), f"{page.name}: link to examples/"
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = {DOCS / "index"}
    for page in PAGES:
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text("utf-8"), re.S):
            names = [line for line in block.split() if not line.startswith(":")]
            listed.update(page.parent / name for name in names)
    written = {page.with_suffix("") for page in [*PAGES, *DOCS.glob("api/*.rst")]}
    missing = sorted(str(page.relative_to(DOCS)) for page in written - listed)
    assert not missing, f"in no toctree of docs/index.md: {missing}"


def documented() -> set[str]:
    """Return the names that the API reference documents: of modules, classes and functions."""
    names = set()
    for page in DOCS.glob("api/*.rst"):
        blocks = re.findall(
            r"^\.\. auto(\w+):: ([\w.]+).*\n((?: +:.*\n)*)", page.read_text("utf-8") + "\n", re.M
        )
        for kind, name, options in blocks:
            names.add(name)
            if kind == "module" and ":no-members:" not in options:
                names.update(f"{name}.{each}" for each in own_names(name))
    return names


def own_names(module: str) -> list[str]:
    """Return the public functions and classes that a module defines."""
    tree = ast.parse(source(module))
    nodes = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    return [node.name for node in nodes if not node.name.startswith("_")]


def source(module: str) -> str:
    """Return the text of a module, which need not be importable."""
    spec = find_spec(module)
    assert spec and spec.origin, f"the API reference names {module}, which does not exist"
    return Path(spec.origin).read_text("utf-8")


def public_names(package: str) -> list[str]:
    """Return what a package exports: ``__all__``, or what it imports as itself."""
    module = import_module(package)
    if hasattr(module, "__all__"):
        return list(module.__all__)
    tree = ast.parse(source(package))
    imports = [alias for n in tree.body if isinstance(n, ast.ImportFrom) for alias in n.names]
    return [alias.name for alias in imports if alias.asname == alias.name]


def test_every_public_name_is_in_the_api_reference() -> None:
    known = documented()
    index = (DOCS / "api" / "index.md").read_text("utf-8")
    assert not [name for name in vheatir.__all__ if f"`{name}`" not in index]
    objects = documented_objects(known)
    for package in PACKAGES:
        for name in public_names(package):
            found = getattr(import_module(package), name)
            if inspect.ismodule(found) or inspect.isclass(found) or inspect.isfunction(found):
                assert any(found is each for each in objects), f"{package}.{name}"
    for module in MODULES:
        missing = {f"{module}.{name}" for name in own_names(module)} - known
        assert not missing


def documented_objects(names: set[str]) -> list[object]:
    """Return what the names stand for, but for integrations with packages that are missing."""
    found = []
    for name in names:
        with contextlib.suppress(ModuleNotFoundError):
            found.append(resolve(name))
    return found


def resolve(name: str) -> Any:
    """Return what a name stands for; unlike ``pkgutil``, say if a module lacks a package.

    Raises:
        ModuleNotFoundError: a module needs a package that is not installed.
        AttributeError: a module lacks the attribute.
    """
    module = name
    while True:
        try:
            found = import_module(module)
            break
        except ModuleNotFoundError as error:
            if error.name != module or "." not in module:
                raise
            module = module.rpartition(".")[0]  # the rest are attributes
    for attribute in filter(None, name.removeprefix(module).split(".")):
        found = getattr(found, attribute)
    return found


def test_the_gallery_takes_every_example() -> None:
    assert len(EXAMPLES) >= 5
    for example in EXAMPLES:
        assert example.name.startswith("plot_"), f"sphinx-gallery runs plot_*.py, not {example}"
        text = ast.get_docstring(ast.parse(example.read_text("utf-8")))
        title, line = (text or "").splitlines()[:2]
        assert line == "=" * len(title), f"{example.name} has no title of reStructuredText"


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstring_examples(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    result = doctest.testmod(pytest.importorskip(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("page", ["index.md", "start.md", "restore.md", "models.md"])
def test_python_of_the_pages_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    write_image(tmp_path / "photo.jpg", rng.integers(90, 120, (64, 64, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.S)
    for block in blocks:
        if "gradio_client" not in block:  # tests/demo/test_main.py runs that one
            exec(compile(block, page, "exec"), {})
    assert blocks


def test_option_files_of_the_training_page(tmp_path: Path, only_own_networks: None) -> None:
    text = (DOCS / "train.md").read_text("utf-8")
    (tmp_path / "options").symlink_to(ROOT / "options")
    module = re.search(r"```python\n# my_archs.py\n(.*?)```", text, re.S)
    assert module
    (tmp_path / "my_archs.py").write_text(module[1])
    files = re.findall(r"```yaml\n(.*?)```", text, re.S)
    for number, content in enumerate(files):
        (tmp_path / f"{number}.yml").write_text(content)
        options = load_options(tmp_path / f"{number}.yml")
        assert options.name in ("mine", "pairs", "plain")
    assert len(files) == 3
