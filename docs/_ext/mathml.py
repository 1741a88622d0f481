"""Mathematics as MathML, so that pages need neither a network nor a script to show it."""

from docutils import nodes
from latex2mathml.converter import convert


def _render(node, display):
    latex = (
        node.astext()
        .replace("\\begin{aligned}", "\\begin{align*}")
        .replace("\\end{aligned}", "\\end{align*}")
    )
    return convert(latex, display=display)


def _inline(translator, node):
    translator.body.append(_render(node, "inline"))
    raise nodes.SkipNode


def _block(translator, node):
    translator.body.append(f'<div class="math-block">{_render(node, "block")}</div>\n')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
