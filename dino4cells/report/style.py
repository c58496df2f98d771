"""The page's style sheet: light and dark, phone and print, no fonts or files from elsewhere."""

from __future__ import annotations

CSS = """
:root { color-scheme: light dark; --ink: #1d2125; --quiet: #5f6972; --line: #dfe3e7; --page: #ffffff; --card: #f6f7f9;
  --accent: #0072b2; --warn: #fff6e5; --warn-line: #e69f00; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 20px 48px; max-width: 940px; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
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
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 20px 0 18px; padding: 0; }
.facts div { background: var(--card); border-radius: 8px; padding: 10px 14px 11px; }
.facts dt { color: var(--quiet); font-size: 13px; }
.facts dd { margin: 0; font-size: 21px; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }
.facts dd small { display: block; font-size: 12.5px; font-weight: 400; color: var(--quiet); line-height: 1.4; overflow-wrap: anywhere; }
.warnings { list-style: none; margin: 16px 0; padding: 0; }
.warnings li { background: var(--warn); border-left: 4px solid var(--warn-line); border-radius: 4px; padding: 9px 14px; margin: 8px 0; }
table { border-collapse: collapse; }
.scores { width: 100%; font-variant-numeric: tabular-nums; }
.scores th, .scores td { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
.scores th:first-child, .scores td:first-child { text-align: left; padding-left: 2px; }
.scores thead th { font-weight: 600; font-size: 13px; color: var(--quiet); }
.scores thead tr:first-child th { color: var(--ink); border-bottom: none; padding-bottom: 0; text-align: left; }
.scores .first { padding-left: 26px; }
.scores tbody tr.trained td { font-weight: 600; }
.scores tbody tr.guess td { color: var(--quiet); border-bottom: none; }
.scores .best { color: var(--accent); }
.cells th { font-weight: 600; font-size: 13px; text-align: left; padding: 4px 8px 6px 0; vertical-align: bottom; }
.cells tbody th { position: sticky; left: 0; background: var(--page); vertical-align: middle;
  min-width: 122px; max-width: 150px; line-height: 1.3; overflow-wrap: break-word; padding-right: 12px; z-index: 1; }
.cells tbody th small { display: block; font-weight: 400; color: var(--quiet); }
.cells td { padding: 2px 8px 2px 0; line-height: 0; }
.cells img { border-radius: 3px; background: #000; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 5px; vertical-align: -1px; }
.where td { padding: 5px 18px 5px 0; vertical-align: top; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
.where td:first-child { white-space: nowrap; color: var(--quiet); }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { overflow-wrap: anywhere; }
pre { background: var(--card); border-radius: 8px; padding: 12px 16px; overflow-x: auto; margin: 8px 0; }
details { margin: 12px 0; }
summary { cursor: pointer; color: var(--accent); }
footer { margin-top: 40px; color: var(--quiet); font-size: 13px; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --quiet: #9aa4ad; --line: #343a40; --page: #15181b; --card: #1f2428; --accent: #6cb8e6; --warn: #33290f; }
  .plot img { filter: invert(.92) hue-rotate(180deg); }
}
@media (max-width: 600px) {
  body { padding: 18px 14px 36px; }
  .plot.wide img { min-width: 620px; }
  .lead { font-size: 16px; }
  .where td:first-child { white-space: normal; overflow-wrap: normal; min-width: 5.4em; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; }
  figure, .facts div, .warnings li, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; }
}
"""
