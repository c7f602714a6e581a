"""How Sphinx builds these pages: ``nox -s docs``, or see that session's one command."""

from __future__ import annotations

import fastworker

project = "FastWorker"
author = "FastWorker's contributors"
copyright = author
release = version = fastworker.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinxcontrib.mermaid",
]
exclude_patterns = ["_build"]

# The same files are read on code hosts, which know ```mermaid and these anchors.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3

autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Cancellation"]
python_use_unqualified_type_names = True
maximum_signature_line_length = 70
python_maximum_signature_line_length = 70

# Copied from a console: the commands, without prompts and what they print.
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = f"FastWorker {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
