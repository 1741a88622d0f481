"""Gallery scraper for figures that an example made without pyplot, such as ``Profile.plot()``'s last value."""

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def _get_sg_image_scraper():
    return scrape


def scrape(block, block_vars, gallery_conf):
    """Save, once, every figure that a name of the example holds and that no pyplot window manages."""
    paths = []
    for value in list(block_vars["example_globals"].values()):
        if not isinstance(value, Figure) or hasattr(value, "_in_gallery"):
            continue
        value._in_gallery = True
        # pyplot's own: matplotlib's scraper saves and closes it after this one
        if value.canvas.manager is not None:
            continue
        path = next(block_vars["image_path_iterator"])
        value.savefig(path, dpi=120)
        paths.append(path)
    return figure_rst(paths, gallery_conf["src_dir"])
