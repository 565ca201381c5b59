"""TeX set as pictures when the site is built, so that a page needs no script and no font to show it."""

import html
import re

import ziamath
from mkdocs.exceptions import PluginError

ziamath.config.svg2 = False  # each picture has its own paths, without identifiers that are on a page once only
SIZE = 17  # px, beside text of 16
FORMULA = re.compile(r'<(?P<tag>span|div) class="arithmatex">\s*\\[([](?P<tex>.*?)\\[\])]\s*</(?P=tag)>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """The page with each formula as a picture. Raises: PluginError where TeX cannot be set."""
    return FORMULA.sub(_picture, content)


def _picture(found: re.Match[str]) -> str:
    """In a line it stands on the base line. Alone it scrolls where it is wider than the page."""
    tex = " ".join(html.unescape(found["tex"]).split())
    in_line = found["tag"] == "span"
    try:
        formula = ziamath.Latex(tex, size=SIZE, color="currentColor", inline=in_line)
        svg = formula.svg()
    except Exception as error:
        raise PluginError(f"this formula cannot be set, {error}: {tex}") from error
    style = f' style="vertical-align: {formula.getyofst():.2f}px"' if in_line else ""
    svg = svg.replace("<svg ", f'<svg class="tex" role="img" aria-label="{html.escape(tex)}"{style} ', 1)
    return svg if in_line else f'<div class="formula">{svg}</div>'
