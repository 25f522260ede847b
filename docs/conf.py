"""Sphinx configuration of the documentation: ``make docs``."""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(ROOT))  # documents this checkout, also where another one is installed
os.environ.setdefault("MPLBACKEND", "agg")

from docutils import nodes  # noqa: E402
from docutils.utils.math import latex2mathml  # noqa: E402
from pydantic import BaseModel  # noqa: E402

import vheatir  # noqa: E402
from vheatir.basicsr_import import import_basicsr  # noqa: E402
from vheatir.zoo import FOLDER as ZOO  # noqa: E402
from vheatir.zoo import list_models  # noqa: E402

# Before anything imports BasicSR: autodoc and the gallery import modules in their own order.
import_basicsr()

project = "vHeatIR"
author = "the vHeatIR authors"
copyright = author  # noqa: A001
version = release = vheatir.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["**/GALLERY_HEADER.rst"]
highlight_language = "none"  # blocks without a language are shell commands, tables, YAML

# Pages stay readable in the repository: plain Markdown, and formulas between dollar signs.
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"vHeatIR {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#c2410c", "color-brand-content": "#b93c0b"},
    "dark_css_variables": {"color-brand-primary": "#fb923c", "color-brand-content": "#fb923c"},
}
copybutton_exclude = ".linenos, .gp, .go"

autodoc_default_options = {"members": True, "member-order": "bysource"}
# Integrations are documented without the packages that they integrate with.
autodoc_mock_imports = [
    name for name in ("deepinv", "huggingface_hub", "spandrel") if find_spec(name) is None
]
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]  # else headed "Variables"
napoleon_use_rtype = False

# Every reference to a name of this package must resolve. Nothing is fetched, so names of other
# packages are not linked.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!vheatir\b).*"),
    (r"py:class", r"vheatir\.archs\.vheatir_unet_arch\.Stage"),  # of the blocks, internal
]

# Tables that programs write, without a heading.
TITLES = {
    "results/frontier/frontier": "Speed and memory against PSNR",
    "results/photographs/automatic": "Automatic, every degradation",
    "results/photographs/compression_after_resizing": "Compression without blocks",
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    # Without deepinv its example is shown, but not run.
    "filename_pattern": "plot_" if find_spec("deepinv") else "plot_(?!deepinv)",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "within_subsection_order": "FileNameSortKey",
    "thumbnail_size": (400, 170),
    "write_computation_times": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "reset_modules": ("matplotlib",),
    "reset_modules_order": "both",
}


def copy_cards(app: Any) -> None:
    """Make pages of the model cards, which lie beside the weights."""
    folder = DOCS / "cards"
    folder.mkdir(exist_ok=True)
    for entry in list_models():
        text = entry.card.read_text(encoding="utf-8").replace("../../docs/", "../")
        (folder / entry.card.name).write_text(text, encoding="utf-8")


def adapt_source(app: Any, docname: str, content: list[str]) -> None:
    """Give a written table its title; let links lead where they do in the repository."""
    text = f"# {TITLES[docname]}\n\n{content[0]}" if docname in TITLES else content[0]
    here = (DOCS / docname).parent

    def redirect(link: re.Match[str]) -> str:
        target = (here / link[1]).resolve()
        if target.parent == ZOO:
            page = DOCS / "cards" / target.name
        elif target == EXAMPLES:
            page = DOCS / "gallery" / "index.rst"
        elif target.parent == EXAMPLES:
            page = DOCS / "gallery" / f"{target.stem}.rst"
        elif target.suffix == ".md" and not target.is_relative_to(DOCS):
            return f"](path:{link[1]})"  # a file to download, not a page
        else:
            return link[0]
        return f"]({os.path.relpath(page, here)})"

    content[0] = re.sub(r"\]\((\.\./[^)#\s]+)\)", redirect, text)


def visit_inline_math(translator: Any, node: nodes.math) -> None:
    """Write an inline formula as MathML, which browsers show without a script."""
    translator.body.append(latex2mathml.tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(translator: Any, node: nodes.math_block) -> None:
    """Write a formula on its own line as MathML."""
    formula = latex2mathml.tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math">{formula}</div>\n')
    raise nodes.SkipNode


def resolve_alias(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Resolve a name where the object is documented: of a re-export, or of a class by itself."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target:
        return None
    domain = env.get_domain("py")
    last = target.rpartition(".")[2]
    named = [name for name in domain.objects if name.endswith(f".{last}")]
    if target.startswith("vheatir."):
        found = find_object(target)
        named = [name for name in named if found is not None and find_object(name) is found]
    else:
        named = [name for name in named if name.endswith(f".{target}")]
    if len({domain.objects[name].node_id for name in named}) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", named[0], node, contnode)


def find_object(name: str) -> Any:
    """Return what a dotted name stands for; None if there is no such thing."""
    try:
        return resolve_name(name)
    except (ImportError, AttributeError):
        return None


def shorten_signature(
    app: Any, what: str, name: str, found: Any, options: Any, signature: str | None, returns: str
) -> tuple[str | None, str | None] | None:
    """Write NDArray as the source does; leave out the options of a section, which are listed."""
    if what == "class" and issubclass(found, BaseModel):
        return "", returns
    array = re.compile(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[(\w+)\]\]")
    return tuple(text and array.sub(r"NDArray[\1]", text) for text in (signature, returns))


def setup(app: Any) -> None:
    """Register the renderer of formulas and the resolver."""
    app.add_html_math_renderer("mathml", (visit_inline_math, None), (visit_math_block, None))
    app.connect("builder-inited", copy_cards)
    app.connect("source-read", adapt_source)
    app.connect("missing-reference", resolve_alias)
    app.connect("autodoc-process-signature", shorten_signature)
