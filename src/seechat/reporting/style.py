"""One look for every figure: a Chinese font by its file, colours that colour-blind readers tell apart, the same bytes each time."""

from pathlib import Path
from typing import Any

# Okabe and Ito 2008, "Color Universal Design", without the yellow that white paper swallows
PALETTE = {
    "blue": "#0072B2", "vermilion": "#D55E00", "green": "#009E73", "purple": "#CC79A7", "orange": "#E69F00", "sky": "#56B4E9",
    "black": "#000000",
}  # fmt: skip
BRIDGES = {  # family of a bridge: its colour, marker and line in every figure, told apart in grey by the last two
    "linear": ("blue", "o", "-"), "mlp": ("orange", "s", "--"), "qformer": ("vermilion", "^", "-."), "resampler": ("green", "D", ":"),
    "cross-attention": ("purple", "v", (0, (5, 1, 1, 1, 1, 1))), "states": ("black", "P", (0, (1, 3))),
}  # fmt: skip
SVG_METADATA = {"Date": None}  # savefig("figure.svg", metadata=SVG_METADATA): without it the clock is in the file
FONT_PACKAGE = "pylopdf-fonts-zh-cn"


def bridge_style(name: str) -> dict[str, Any]:
    """How matplotlib draws the line of a bridge, by its family: `linear-2x2` as `linear`. Raises KeyError for an unknown one."""
    colour, marker, line = BRIDGES[next((family for family in BRIDGES if name == family or name.startswith(f"{family}-")), name)]
    return {"color": PALETTE[colour], "marker": marker, "linestyle": line, "markevery": 0.1}


def cjk_font() -> Path:
    """The file of Noto Sans SC. Raises FileNotFoundError, one line with the mend, where it is not installed."""
    missing = f"no font that draws Chinese; pip install {FONT_PACKAGE}"
    try:
        from pylopdf_fonts_zh_cn import sans_path
    except ImportError:
        raise FileNotFoundError(missing) from None
    path = Path(sans_path())
    if not path.is_file():
        raise FileNotFoundError(f"{missing} --force-reinstall")
    return path


def use_style() -> None:
    """Set matplotlib's defaults for all figures made after it. Raises FileNotFoundError as `cjk_font` does."""
    import matplotlib
    from cycler import cycler
    from matplotlib import font_manager

    path = cjk_font()
    font_manager.fontManager.addfont(path)
    name = font_manager.FontProperties(fname=path).get_name()
    matplotlib.rcParams.update({
        "font.family": [name, "DejaVu Sans"], "font.size": 10, "axes.titlesize": 11, "axes.labelsize": 10, "legend.fontsize": 9,
        "figure.figsize": (6.4, 3.6), "figure.dpi": 100, "savefig.dpi": 150, "figure.constrained_layout.use": True,
        "axes.prop_cycle": cycler(color=list(PALETTE.values())), "image.cmap": "cividis",
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
        "grid.color": "#dddddd", "grid.linewidth": 0.6, "legend.frameon": False, "lines.linewidth": 1.6,
        "svg.hashsalt": "seechat", "svg.fonttype": "path",
    })  # fmt: skip
