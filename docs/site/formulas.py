"""TeX set as pictures when the site is built, so that a page needs no script and no font to show it."""

import html
import re
from xml.etree import ElementTree

import ziamath
from mkdocs.exceptions import PluginError

ziamath.config.svg2 = False  # no identifiers, which a page may have only once
SIZE = 16
FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\s*\\[([](?P<tex>.*?)\\[\])]\s*</(?P=tag)>', re.DOTALL
)


def on_page_content(content: str, **_: object) -> str:
    """The page with each formula as a picture. Raises: PluginError where TeX cannot be set."""
    return FORMULA.sub(_picture, content)


def _picture(found: re.Match[str]) -> str:
    """In a line it stands on the base line. Alone it scrolls where it is wider than the page."""
    tex = " ".join(html.unescape(found["tex"]).split())
    in_line = found["tag"] == "span"
    try:
        formula = ziamath.Latex(tex, size=SIZE, color="currentColor", inline=in_line)
        picture = formula.svgxml()
    except Exception as error:
        raise PluginError(f"this formula cannot be set, {error}: {tex}") from error
    for side in ("width", "height"):
        picture.set(side, _em(float(picture.get(side, 0))))
    picture.set("style", f"vertical-align: {_em(formula.getyofst())}" if in_line else "")
    picture.attrib |= {"class": "tex", "role": "img", "aria-label": tex}
    svg = ElementTree.tostring(picture, encoding="unicode")
    return svg if in_line else f'<div class="formula">{svg}</div>'


def _em(size: float) -> str:
    """A length relative to the text around the formula."""
    return f"{size / SIZE:.3f}em"
