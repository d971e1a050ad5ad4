"""The style sheet of a report: system fonts, light and dark, readable on a phone and on paper."""

from __future__ import annotations

from .palette import ON_DARK, ON_LIGHT


def _colours(table: dict[str, str]) -> str:
    return "".join(f"--{name.replace('_', '-')}:{colour};" for name, colour in table.items())


def _kinds() -> str:
    return "".join(f".{name}{{--c:var(--{name.replace('_', '-')})}}" for name in ON_LIGHT)


STYLE = (
    ":root{color-scheme:light dark;--bg:#fff;--card:#f6f7f9;--line:#d9dde3;--ink:#15191f;"
    "--soft:#59626e;--truth:#59626e;" + _colours(ON_LIGHT) + "}"
    "@media (prefers-color-scheme:dark){:root{--bg:#0f1318;--card:#181d24;--line:#2c343e;"
    "--ink:#e8ebef;--soft:#9aa5b1;--truth:#9aa5b1;"
    + _colours(ON_DARK)
    + "}}"
    + _kinds()
    + ".truth{--c:var(--truth)}"
    + """
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:28px 20px 60px;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;
-webkit-text-size-adjust:100%}
h1{font-size:26px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:18px;margin:40px 0 10px}
h3{font-size:14px;margin:0 0 6px;font-weight:600}
p{margin:0 0 10px}
.soft,small{color:var(--soft)}
a{color:var(--progress)}
code,pre{font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--card);border-radius:8px;padding:12px 14px;overflow-x:auto;margin:0 0 12px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:22px 0}
.card,.episode,figure{background:var(--card);border-radius:10px;padding:14px 16px;margin:0}
.card b{display:block;font-size:30px;line-height:1.15;font-weight:650;letter-spacing:-.02em;
font-variant-numeric:tabular-nums}
.card span{font-weight:600}
.card small{display:block;line-height:1.35}
.scroll{overflow-x:auto;margin:0 0 12px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{text-align:right;padding:6px 10px;border-bottom:1px solid var(--line);white-space:nowrap;
vertical-align:top}
th:first-child,td:first-child{text-align:left;padding-left:0}
thead th{color:var(--soft);font-weight:500;font-size:13px;vertical-align:bottom}
tbody th{font-weight:500}
td small{display:block;line-height:1.25;font-size:12px}
td.words,th.words{white-space:normal;text-align:left;color:var(--soft);font-size:13px;min-width:210px}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:14px}
.grid3{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,280px),1fr));gap:14px}
figure img,figure video{display:block;max-width:100%;height:auto;border-radius:6px}
figcaption{color:var(--soft);font-size:13px;margin-top:8px}
.episode h3{display:flex;justify-content:space-between;gap:10px;flex-wrap:wrap}
.episode p{margin:0 0 8px;font-size:13px;color:var(--soft);line-height:1.4}
.strip{display:block;width:100%;border-radius:4px}
.chart{display:block;width:100%;height:auto;overflow:visible}
.chart text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
fill:var(--c,var(--soft))}
.grid{stroke:var(--line);stroke-width:1}
.l{fill:none;stroke:var(--c);stroke-width:2.4;stroke-linejoin:round;stroke-linecap:round}
.l.thin{stroke-width:1.3}
.l.dash{stroke-dasharray:4 5;stroke-width:1.5}
.a{fill:var(--c);opacity:.16;stroke:none}
.d{fill:var(--c);fill-opacity:.8;stroke:var(--card);stroke-width:1}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin:0 0 10px;font-size:13px}
.key{color:var(--c);font-weight:600}
.key::before{content:"";display:inline-block;width:14px;height:3px;border-radius:2px;
background:var(--c);margin-right:6px;vertical-align:middle}
.tag{font-size:12px;font-weight:600;padding:1px 8px;border-radius:99px;
border:1px solid;color:var(--c)}
.confusion td{text-align:center;font-size:20px;padding:16px 8px;border:2px solid var(--card);
background:color-mix(in srgb,var(--progress) calc(var(--share)*60%),var(--bg));min-width:86px}
.confusion th{border:0;font-weight:500;color:var(--soft);font-size:13px;white-space:normal;
text-align:center;vertical-align:middle}
.heat td{font-size:14px;padding:8px 6px;min-width:56px}
.heat th{padding:6px 8px}
.heat th:first-child{text-align:left}
details{margin:14px 0}
summary{cursor:pointer;color:var(--soft)}
@media print{body{max-width:none;padding:0}.episode,figure{break-inside:avoid}}
@media (max-width:520px){body{padding:20px 14px 40px}.card b{font-size:26px}
th,td{padding:6px 7px}}
"""
)
"""CSS; ``.name`` of a signal sets the colour ``--c`` of whatever carries it."""
