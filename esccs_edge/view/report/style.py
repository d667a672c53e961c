"""The style sheet of a report; light or dark as the reader's system asks, and fit to print."""

STYLE = """
:root{color-scheme:light dark;--ink:#1d2630;--faint:#66717d;--page:#f5f6f4;--card:#fff;
--line:#dde1e0;--first:#15616d;--second:#d1793b;--hit:#15616d;--miss:#b8412f;--note:#fdf3dc;
--note-line:#e2bd66;--on-strong:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaec;--faint:#97a3ad;--page:#13181c;
--card:#1c2329;--line:#313b43;--first:#5fb8c4;--second:#e89b62;--hit:#5fb8c4;--miss:#e0705d;
--note:#332b18;--note-line:#7d6427;--on-strong:#10161a}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 20px 56px}
header{margin-bottom:20px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px}
h2{font-size:17px;margin:0 0 12px}
p{margin:0 0 10px}
.faint{color:var(--faint)}
code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.note{background:var(--note);border:1px solid var(--note-line);border-radius:8px;
padding:10px 14px;margin:0 0 20px}
.note p:last-child{margin:0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(138px,1fr));gap:12px;
margin-bottom:20px}
.tile,section{background:var(--card);border:1px solid var(--line);border-radius:10px}
.tile{padding:14px 16px}
.tile b{display:block;font-size:23px;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{color:var(--faint);font-size:13px;display:block}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr));gap:16px}
section{padding:18px 20px;margin-bottom:16px;min-width:0}
.pair section{margin-bottom:0}
.pair{margin-bottom:16px}
.scroll{overflow-x:auto}
svg{display:block;width:100%;height:auto;margin:0 auto}
svg text{fill:var(--ink);font-size:11px;text-anchor:middle}
svg .tick{fill:var(--faint)}
svg .label{fill:var(--faint);font-size:12px}
svg .end{text-anchor:end}
svg .start{text-anchor:start}
svg .grid{stroke:var(--line);fill:none}
svg .whisker{stroke:var(--first);stroke-opacity:.45;stroke-width:1.5;fill:none}
svg .line{fill:none;stroke-width:2.5;stroke-linejoin:round}
svg .line.first{stroke:var(--first)}
svg .line.second{stroke:var(--second);stroke-dasharray:5 4}
svg .dot.first,svg .bar{fill:var(--first)}
svg .dot.second{fill:var(--second)}
svg .diagonal{stroke:var(--faint);stroke-dasharray:3 4;fill:none}
svg .cell.hit{fill:var(--hit)}
svg .cell.miss{fill:var(--miss)}
svg .count.strong{fill:var(--on-strong)}
.legend{display:flex;gap:18px;flex-wrap:wrap;color:var(--faint);font-size:13px;margin-top:8px}
.legend i{display:inline-block;width:22px;height:0;border-top:3px solid var(--first);
vertical-align:middle;margin-right:6px}
.legend .second{border-top:3px dashed var(--second)}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px 5px 0;text-align:left;border-bottom:1px solid var(--line);
vertical-align:top}
th{font-weight:600;color:var(--faint);font-size:13px}
td.number,th.number{text-align:right;white-space:nowrap}
tr:last-child td{border-bottom:0}
.examples{display:grid;grid-template-columns:repeat(auto-fill,minmax(232px,1fr));gap:14px}
figure{margin:0;border:1px solid var(--line);border-radius:8px;overflow:hidden}
figure .images{display:grid;grid-template-columns:1fr 1fr;gap:2px;background:var(--line)}
figure img{width:100%;display:block;image-rendering:pixelated;aspect-ratio:1;object-fit:cover}
figcaption{padding:9px 11px;font-size:13px;line-height:1.4}
figcaption b{color:var(--miss)}
details{margin-top:6px}
summary{cursor:pointer;color:var(--faint)}
pre{overflow-x:auto;font-size:12px;background:var(--page);padding:12px;border-radius:8px}
@media print{body{background:#fff}section,.tile,figure{break-inside:avoid}}
"""
