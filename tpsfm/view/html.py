"""What our pages share: their look, and pictures inside them, so that a page needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape

import numpy as np

_STYLE = """
:root{--ink:#1d2430;--soft:#5d6878;--line:#dfe3e9;--paper:#fff;--back:#f4f5f7;--accent:#d9730d;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e7eaef;--soft:#98a2b1;--line:#333a45;--paper:#1d222a;--back:#12151b;
--accent:#ff9428;--bad:#ff8a80}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1060px;margin:0 auto;padding:28px 20px 60px}h1{font-size:25px;margin:0}
h2{font-size:18px;margin:34px 0 10px}
p{margin:4px 0}.soft{color:var(--soft)}.bad{color:var(--bad)}a{color:inherit}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0}
.facts div,.card{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:12px 16px}
.facts b{display:block;font-size:25px;line-height:1.25;font-variant-numeric:tabular-nums}
img.map{width:100%;border-radius:10px;display:block}.charts{display:grid;gap:12px;
grid-template-columns:repeat(auto-fit,minmax(300px,1fr))}svg{width:100%;height:auto;display:block}
svg rect{fill:var(--accent)}svg line{stroke:var(--soft)}svg text{fill:var(--soft);font-size:11px}
svg text.title{fill:var(--ink);font-size:13px;font-weight:600}
table{border-collapse:collapse;width:100%}th{text-align:left;color:var(--soft);font-weight:500}
th,td{padding:5px 12px 5px 0;border-bottom:1px solid var(--line);vertical-align:middle;overflow-wrap:anywhere}
tr:last-child td{border-bottom:0}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td img{height:46px;display:block;border-radius:4px}td.pic{width:84px}.bar{width:40%}
.bar i{display:block;height:9px;border-radius:5px;background:var(--accent);min-width:2px}
"""


def document(title: str, sections: Iterable[str]) -> str:
    """A whole page of sections of HTML; `title` is plain text."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def inline(picture: bytes) -> str:
    """A JPEG as an image's address."""
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"


def jpeg(image: np.ndarray, quality: int) -> bytes:
    """A picture uint8 [H, W, 3] as JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
