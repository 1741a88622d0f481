"""Sphinx configuration. Builds without a network: nothing is fetched, mathematics is rendered as MathML."""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS / "_ext"))

import lodim  # noqa: E402
from lodim.geometry import _spine  # noqa: E402

project = "lodim"
author = "The lodim developers"
copyright = "The lodim developers"
release = version = lodim.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "measured",
]
root_doc = "index"
exclude_patterns = ["_build", "_ext", "generated", "auto_examples/*.ipynb", "json-schema.md.in"]
templates_path = ["_templates"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
# what a room shows and another one exports too is indexed under the latter's name, which users import
autosummary_context = {"told_elsewhere": [f"lodim.dimension.{name}" for name in _spine.__all__]}
autodoc_typehints = "none"  # shapes and units are in the docstrings; the annotations are for the checkers
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_use_plots = False
add_module_names = False
python_use_unqualified_type_names = True

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["auto_examples"],
    "filename_pattern": r"plot_",
    "within_subsection_order": "ExampleTitleSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_signature": False,
    "show_memory": False,
    "reset_modules": ("matplotlib",),
    "backreferences_dir": None,
    "capture_repr": (),
    "abort_on_example_error": True,
    "parallel": True,  # as many as sphinx-build's -j
    "image_scrapers": ("figures", "matplotlib"),
}

html_theme = "pydata_sphinx_theme"
html_title = "lodim"
html_static_path = ["_static"]
html_css_files = ["lodim.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "quickstart": [], "changelog": [], "evidence": []}
html_theme_options = {
    "logo": {"text": "lodim"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "navigation_with_keys": False,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 6,
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}


def _without_foreign_labels(app, what, name, obj, options, lines):
    """Methods inherited from scikit-learn point to labels of its own pages; their words stay, the links go."""
    lines[:] = [re.sub(r":ref:`([^`<]*?) <[^`>]*>`", r"\1", line) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", _without_foreign_labels, priority=0)
