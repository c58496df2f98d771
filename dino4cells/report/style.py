"""The page's style sheet: light and dark, phone and print, no fonts or files from elsewhere."""

from __future__ import annotations

CSS = """
:root { color-scheme: light dark; --ink: #1d2125; --quiet: #5f6972; --line: #dfe3e7; --edge: #7d868f; --page: #ffffff; --card: #f6f7f9;
  --accent: #0072b2; --warn: #fff6e5; --warn-line: #b26a00; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 20px 48px; max-width: 1060px; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
h1 { margin: 0 0 6px; font-size: 27px; line-height: 1.2; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 44px 0 6px; padding-top: 14px; border-top: 1px solid var(--line); font-size: 19px; line-height: 1.3; }
h3 { margin: 22px 0 4px; font-size: 15px; }
p { margin: 6px 0 12px; max-width: 76ch; }
.lead { font-size: 17px; line-height: 1.5; }
.quiet, figcaption { color: var(--quiet); font-size: 13.5px; }
figure { margin: 14px 0 18px; }
figcaption { margin-top: 6px; max-width: 84ch; }
.plot img { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(164px, 1fr)); gap: 10px; margin: 20px 0 18px; padding: 0; }
.facts div { background: var(--card); border-radius: 8px; padding: 10px 14px 11px; }
.facts dt { color: var(--quiet); font-size: 13px; }
.facts dd { margin: 0; font-size: 21px; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }
.facts dd small { display: block; font-size: 12.5px; font-weight: 400; color: var(--quiet); line-height: 1.4; overflow-wrap: anywhere; }
.warnings { list-style: none; margin: 16px 0; padding: 0; }
.warnings li { background: var(--warn); border-left: 4px solid var(--warn-line); border-radius: 4px; padding: 9px 14px; margin: 8px 0; }
table { border-collapse: collapse; }
.scores { width: 100%; font-variant-numeric: tabular-nums; }
.scores th, .scores td { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
.scores th:first-child { text-align: left; padding-left: 2px; }
.scores td small { display: block; font-weight: 400; font-size: 12px; color: var(--quiet); line-height: 1.2; }
.scores thead th { font-weight: 600; font-size: 13px; color: var(--quiet); }
.scores thead tr:first-child > * { color: var(--ink); border-bottom: none; padding-bottom: 0; text-align: left; }
.scores .first { padding-left: 26px; }
.scores tbody th { font-weight: 400; }
.scores tbody tr.trained th { font-weight: 600; }
.scores tbody tr.guess > * { color: var(--quiet); border-bottom: none; }
.scores.classes { width: auto; }
.scores.classes th, .scores.classes td { padding-top: 4px; padding-bottom: 4px; }
.scores.classes th:first-child { white-space: normal; overflow-wrap: anywhere; }
.scores.classes td:last-child, .scores.classes th:last-child { text-align: left; padding-left: 26px; }
.scores .best { color: var(--accent); font-weight: 700; }
.cells th { font-weight: 600; font-size: 13px; text-align: left; padding: 4px 8px 6px 0; vertical-align: bottom; }
.cells thead th { white-space: nowrap; font-size: 12px; }
.cells tbody th { position: sticky; left: 0; background: var(--page); vertical-align: middle;
  min-width: 122px; max-width: 150px; line-height: 1.3; overflow-wrap: break-word; padding-right: 12px; z-index: 1; }
.cells tbody th small { display: block; font-weight: 400; color: var(--quiet); }
.cells td { padding: 2px 8px 2px 0; line-height: 0; }
.cells img, .cells td canvas { border-radius: 3px; background: #000; image-rendering: auto; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 5px; vertical-align: -1px; }
.where th, .where td { text-align: left; padding: 5px 18px 5px 0; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
.where th { font-weight: 400; white-space: nowrap; color: var(--quiet); }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { overflow-wrap: anywhere; }
pre { background: var(--card); border-radius: 8px; padding: 12px 16px; overflow-x: auto; margin: 8px 0; }
details { margin: 12px 0; }
summary { cursor: pointer; color: var(--accent); }
.skip { position: absolute; left: -999px; top: 4px; background: var(--page); padding: 6px 12px; z-index: 9; }
.skip:focus { left: 8px; }
main:focus, section:focus { outline: none; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
a { color: var(--accent); }
.contents { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 8px 0 -18px; font-size: 14px; }
.controls { display: flex; flex-wrap: wrap; gap: 8px 18px; align-items: center; margin: 12px 0; }
.controls label { display: inline-flex; gap: 6px; align-items: center; }
button, select, input[type=search], textarea { font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--edge);
  border-radius: 6px; padding: 4px 10px; }
::placeholder { color: var(--quiet); opacity: 1; }
button { cursor: pointer; }
button:hover { border-color: var(--accent); }
.tools { display: inline-flex; }
.tools button { border-radius: 0; margin-left: -1px; min-width: 34px; }
.tools button:first-child { border-radius: 6px 0 0 6px; }
.tools button:last-child { border-radius: 0 6px 6px 0; }
.tools button[aria-pressed=true] { background: var(--accent); border-color: var(--accent); color: var(--page); }
input[type=range], input[type=checkbox] { accent-color: var(--accent); }
output { min-width: 3.2em; font-variant-numeric: tabular-nums; color: var(--quiet); font-size: 13.5px; }
fieldset.channels { display: flex; flex-wrap: wrap; gap: 4px 16px; border: 1px solid var(--line); border-radius: 8px; margin: 0;
  padding: 4px 12px 7px; }
fieldset.channels legend { color: var(--quiet); font-size: 13px; padding: 0 4px; }
.atlas { display: grid; grid-template-columns: minmax(0, 1fr) 250px; gap: 18px; }
#map-figure { position: relative; min-height: 600px; border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
#map-dots { position: absolute; pointer-events: none; }
.atlas aside { display: flex; flex-direction: column; gap: 12px; max-height: 602px; }
#map-card { min-height: 200px; flex: 0 1 auto; overflow-y: auto; }
#map-card canvas { border-radius: 6px; display: block; background: #000; }
#map-card dl { margin: 8px 0 0; display: grid;
  grid-template-columns: auto minmax(0, 1fr); gap: 1px 10px; font-size: 13px; line-height: 1.4; }
#map-card dt { color: var(--quiet); max-width: 110px; overflow-wrap: anywhere; }
#map-card dd { margin: 0; overflow-wrap: anywhere; unicode-bidi: isolate; }
#map-card dd:first-of-type { font-weight: 600; }
.no-picture { display: grid; place-items: center; text-align: center; width: 84px; min-height: 44px; font-size: 11.5px; line-height: 1.25;
  color: var(--quiet); background: var(--card); border-radius: 6px; padding: 4px; }
#map-legend { flex: 1 0 210px; min-height: 0; overflow-y: auto; border-top: 1px solid var(--line); }
#map-legend h3 { margin: 8px 0 4px; font-size: 13.5px; overflow-wrap: anywhere; }
#map-legend ul { list-style: none; margin: 0; padding: 0; }
#map-legend button, #map-legend .others { display: flex; width: 100%; gap: 7px; align-items: center; text-align: left; font-size: 13px;
  line-height: 1.3; min-height: 24px; padding: 2px 6px; border-color: transparent; background: none; }
#map-legend button:hover { border-color: var(--edge); }
#map-legend button[aria-pressed=true] { border-color: var(--accent); background: var(--card); font-weight: 600; }
#map-legend button span { flex: 1; text-align: left; overflow-wrap: anywhere; unicode-bidi: isolate; }
#map-legend small { color: var(--quiet); font-variant-numeric: tabular-nums; }
#map-legend svg { width: 12px; height: 12px; flex: none; fill: var(--on-light); }
.scale { height: 12px; border-radius: 3px; margin: 6px; background: var(--on-light); }
.ends { display: flex; justify-content: space-between; margin: 0 6px; font-size: 12.5px; color: var(--quiet); }
.gallery { list-style: none; display: flex; flex-wrap: wrap; gap: 8px 6px; margin: 8px 0; padding: 0; }
.gallery button { display: flex; flex-direction: column; width: 84px; padding: 6px 4px; font-size: 11.5px; line-height: 1.25;
  text-align: left; border-color: transparent; background: none; height: 100%; }
.gallery button:hover { border-color: var(--edge); }
.gallery button.other { border: 2px dashed var(--warn-line); padding: 5px 3px; }
.gallery li:first-child { border-right: 1px solid var(--line); padding-right: 6px; }
.gallery canvas { border-radius: 4px; background: #000; }
.gallery .no-picture { width: 70px; min-height: 70px; }
.gallery span[dir] { overflow-wrap: anywhere; unicode-bidi: isolate; margin-top: 4px; }
.gallery small { color: var(--quiet); }
#map-selection .scroll { max-height: 420px; overflow: auto; border: 1px solid var(--line); border-radius: 8px; }
.list { font-size: 13px; line-height: 1.35; width: 100%; }
.list th { position: sticky; top: 0; background: var(--card); text-align: left; padding: 5px 10px; white-space: nowrap; z-index: 1; }
.list td { padding: 3px 10px; border-top: 1px solid var(--line); max-width: 260px; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; unicode-bidi: isolate; }
.list button { display: block; padding: 1px; border-color: transparent; background: none; }
.list button:hover { border-color: var(--edge); }
.list canvas { border-radius: 3px; display: block; background: #000; }
#selection-copy textarea { display: block; width: 100%; margin: 4px 0 10px;
  font: 12px/1.4 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
footer { margin-top: 40px; color: var(--quiet); font-size: 13px; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --quiet: #9aa4ad; --line: #343a40; --edge: #6b747d; --page: #15181b; --card: #1f2428; --accent: #6cb8e6;
    --warn: #33290f; --warn-line: #e69f00; }
  .plot img { filter: invert(.92) hue-rotate(180deg); }
  .scale { background: var(--on-dark); }
  #map-legend svg { fill: var(--on-dark); }
}
@media (max-width: 760px) {
  .atlas { grid-template-columns: minmax(0, 1fr); }
  .atlas aside { max-height: none; }
  #map-figure { min-height: 430px; }
  #map-card { min-height: 0; }
  #map-legend { max-height: 220px; }
}
@media (max-width: 600px) {
  body { padding: 18px 14px 36px; }
  .plot.wide img { min-width: 620px; }
  .lead { font-size: 16px; }
  .where th { white-space: normal; overflow-wrap: normal; min-width: 5.4em; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; }
  figure, .facts div, .warnings li, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; }
  .controls, .contents, .skip, #map-help, #map-card > .quiet:only-child { display: none; }
  #map-figure { min-height: 0; break-inside: avoid; }
  #map-figure > :not(#map-dots) { display: none; }
  #map-dots { position: static; display: block; width: 100% !important; height: auto !important; }
  .atlas aside, #map-selection .scroll { max-height: none; }
  #map-selection .scroll, #map-legend { overflow: visible; }
  .list { font-size: 8pt; }
  .list th, .list td { padding: 2px 4px; max-width: none; white-space: normal; overflow-wrap: anywhere; }
  details::details-content { content-visibility: visible; height: auto; }
}
"""
