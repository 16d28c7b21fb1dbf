"""Sphinx's configuration: Markdown pages by MyST, the reference from the docstrings, the theme furo.

`make docs` builds with it twice: pages of HTML, and a Markdown copy beside each. Nothing is downloaded during a build.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

import tcpip_wasm  # noqa: E402

project = "tcpip_wasm"
author = "tcpip_wasm contributors"
project_copyright = author
version = release = tcpip_wasm.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_markdown_builder", "extensions"]
root_doc = "index"
source_suffix = {".md": "markdown"}
exclude_patterns = ["README.md"]

smartquotes = False

# --- Markdown pages ------------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# --- Docstrings ----------------------------------------------------------------------------------------------

# Text in single backquotes is a link if it names a Python object, otherwise literal text.
default_role = "py:obj"
autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True

# --- HTML ----------------------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"tcpip_wasm {release}"
html_copy_source = False
html_show_sourcelink = False
