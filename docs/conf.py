"""How the pages become a site: ``python -m sphinx -W docs build/site``, with the extra `docs`.

Nothing that it makes needs a network: formulas are MathML, which browsers draw themselves.
"""

import importlib
import inspect
from typing import Any

import latex2mathml.converter
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import tinylm

project = "tinylm"
version = release = tinylm.__version__
project_copyright = "the authors of tinylm"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["toc.not_included"]  # decisions are listed by their own page
html_theme = "furo"
html_title = f"tinylm {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
autodoc_typehints = "none"  # the docstrings say shapes, which types do not
autodoc_inherit_docstrings = False
napoleon_use_rtype = False


class Room(SphinxDirective):
    """``.. room:: tinylm.ops``: the public names of a room, each with what its docstring says."""

    required_arguments = 1
    documented = []  # noqa: RUF012  # of the whole page

    def run(self):
        module = importlib.import_module(self.arguments[0])
        text = f".. automodule:: {module.__name__}\n   :no-members:\n\n"
        own = [n for n in tinylm.__all__ if vars(module).get(n) is getattr(tinylm, n)]
        for name in getattr(module, "__all__", own):
            thing = getattr(module, name)
            if thing is Any or thing in self.documented:  # in a room below this one
                continue
            self.documented.append(thing)
            if isinstance(thing, type):
                members = ":members:\n   :special-members: __call__"
                text += f".. autoclass:: {module.__name__}.{name}\n   {members}\n\n"
            elif inspect.getdoc(thing) and callable(thing) and hasattr(thing, "__name__"):
                text += f".. autofunction:: {module.__name__}.{name}\n\n"
        return self.parse_text_to_nodes(text)


def mathml(display):
    """What writes a formula as MathML, within a line or as a block."""

    def visit(translator, node):
        translator.body.append(latex2mathml.converter.convert(node.astext(), display=display))
        raise nodes.SkipNode

    return visit, None


def setup(app):
    app.add_directive("room", Room)
    app.add_html_math_renderer("mathml", mathml("inline"), mathml("block"))
    return {"parallel_read_safe": True}
