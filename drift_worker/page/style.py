"""The style sheet: light and dark, from a phone's width on, without external resources."""

from drift_worker.page.markup import trusted

STYLE = trusted("""
:root { color-scheme: light dark; --bg: #f6f6f4; --card: #ffffff; --ink: #1d2126; --muted: #5c636d; --line: #dcdee2;
  --ref: #ccd2dc; --ref-edge: #8b95a5; --win: #2459c9; --warn: #9a5b00; --warn-bg: #fff0d2; --crit: #b3201c;
  --crit-bg: #fde4e1; --calm: #1f6b43; --calm-bg: #dff3e6; --none: #5c636d; --none-bg: #e9eaed; --pend: #5b3fb0;
  --pend-bg: #e9e3fb; --cell: #cfe3d6; --cell-warn: #e9a83a; --cell-crit: #c8322d; }
@media (prefers-color-scheme: dark) { :root { --bg: #14161a; --card: #1d2025; --ink: #e7e9ec; --muted: #a3abb6;
  --line: #353a42; --ref: #4a515d; --ref-edge: #7d8796; --win: #7ea6ff; --warn: #ffc266; --warn-bg: #41300f;
  --crit: #ff9088; --crit-bg: #4a1a18; --calm: #86d3a5; --calm-bg: #16362a; --none: #a3abb6; --none-bg: #2c3037;
  --pend: #c0aef8; --pend-bg: #30285a; --cell: #25493a; --cell-warn: #c98a1e; --cell-crit: #e0554d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; -webkit-text-size-adjust: 100%; }
main, header, footer { max-width: 1240px; margin: 0 auto; padding: 0 16px; }
header { padding-top: 22px; }
h1 { font-size: 25px; line-height: 1.25; margin: 0 0 2px; letter-spacing: -.01em; }
h1 small { font-weight: 400; color: var(--muted); font-size: 17px; }
h2 { font-size: 18px; margin: 30px 0 10px; }
h3 { font-size: 16px; margin: 0; overflow-wrap: anywhere; }
p { margin: 0 0 8px; }
a { color: inherit; text-decoration-color: var(--muted); text-underline-offset: 2px; }
.muted, figcaption, footer { color: var(--muted); font-size: 13px; }
.moved { font-size: 17px; margin: 14px 0; padding: 12px 14px; background: var(--card); border: 1px solid var(--line);
  border-left: 5px solid var(--calm); border-radius: 8px; overflow-wrap: anywhere; }
.moved.warning { border-left-color: var(--cell-warn); } .moved.critical { border-left-color: var(--crit); }
.moved.not_enough_data { border-left-color: var(--none); }
.chip { display: inline-block; white-space: nowrap; border-radius: 999px; padding: 1px 9px; font-size: 13px;
  font-weight: 600; background: var(--none-bg); color: var(--none); }
.chip.critical { background: var(--crit-bg); color: var(--crit); }
.chip.warning { background: var(--warn-bg); color: var(--warn); }
.chip.pending { background: var(--pend-bg); color: var(--pend); }
.chip.inactive, .chip.resolved { background: var(--calm-bg); color: var(--calm); }
.cards { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 350px), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 14px 10px;
  min-width: 0; scroll-margin-top: 8px; }
.card.critical { border-color: var(--crit); } .card.warning { border-color: var(--cell-warn); }
.head { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: baseline; justify-content: space-between; }
.unknown { padding: 10px 12px; border: 1px dashed var(--line); border-radius: 8px; color: var(--muted); margin: 8px 0; }
figure { margin: 10px 0 12px; } figcaption { margin-bottom: 3px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font: 10px system-ui, sans-serif; fill: var(--muted); }
svg text.small { font-size: 9px; } svg text.warn { fill: var(--warn); } svg text.crit { fill: var(--crit); }
.ref { fill: var(--ref); stroke: var(--ref-edge); stroke-width: .6; } .win { fill: var(--win); }
.rail { fill: var(--bg); stroke: var(--line); stroke-width: .6; }
.grid, .tick { stroke: var(--line); stroke-width: 1; }
.mark { stroke-width: 1.4; stroke-dasharray: 3 2; } .mark.warn { stroke: var(--warn); }
.mark.crit { stroke: var(--crit); } .mark.null { stroke: var(--ink); stroke-dasharray: none; }
.line { fill: none; stroke: var(--win); stroke-width: 1.6; stroke-linejoin: round; } .dot { fill: var(--win); }
.strips { display: grid; grid-template-columns: minmax(90px, 190px) 1fr; gap: 3px 10px; align-items: center;
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.strips .name { font-size: 13px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.strip { height: 15px; } .times { display: flex; justify-content: space-between; font-size: 12px; color: var(--muted); }
.c-quiet { fill: var(--cell); } .c-warning { fill: var(--cell-warn); } .c-critical { fill: var(--cell-crit); }
.c-unknown { fill: var(--none-bg); } .c-alert { fill: var(--ink); } .c-none { fill: transparent; }
.key { display: inline-flex; align-items: center; gap: 5px; margin-right: 12px; }
.key svg { width: 14px; height: 12px; flex: none; }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--muted); } td.n, th.n { text-align: right; white-space: nowrap; }
td.t { white-space: nowrap; }
.panel { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 6px 14px; }
details { margin-top: 4px; } summary { cursor: pointer; color: var(--muted); font-size: 13px; }
details table { margin: 6px 0 10px; font-size: 12.5px; }
footer { padding: 26px 16px 40px; }
@media print { .card { break-inside: avoid; } }
""")
