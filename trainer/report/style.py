"""How a report looks: on paper, on a phone, by day and by night. System fonts only."""

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --panel: #f2efe8; --ink: #23211e; --soft: #68645b; --line: #dcd7cc;
  --accent: #a3461a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #181715; --panel: #22201d; --ink: #e9e5dd; --soft: #a09a8e; --line: #38342e; --accent: #f0a35e; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1, h2, .caption, .key dd { font-family: Charter, "Bitstream Charter", Cambria, Georgia, serif; font-weight: 400; }
h1 { margin: 0; font-size: 2.5rem; line-height: 1.15; overflow-wrap: anywhere; }
h2 { margin: 3.5rem 0 1rem; padding-top: .75rem; border-top: 1px solid var(--line); font-size: 1.6rem; }
h3 { margin: 2.5rem 0 .25rem; font-size: 1rem; }
p { margin: .5rem 0; max-width: 44rem; }
a { color: var(--accent); }
.kicker, .note, nav { color: var(--soft); font-size: .875rem; }
.kicker { margin: 0 0 .25rem; }
nav { margin-top: 1.25rem; }
nav a { margin-right: 1rem; text-decoration: none; }
dl { margin: 0; }
.key { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1.75rem 0 0; }
.key dt { color: var(--soft); font-size: .8125rem; }
.key dd { margin: 0; font-size: 1.75rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem 1.25rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 400; white-space: nowrap; }
td { overflow-wrap: anywhere; }
.numbers th + th, .numbers td + td, .numbers th + td { text-align: right; white-space: nowrap; }
tr.chosen td, tr.chosen th, tr.changed td, tr.changed th { color: var(--accent); font-weight: 600; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem 3rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1.75rem 2rem; }
figure { margin: 0; }
.chart figcaption { display: flex; justify-content: space-between; gap: 1rem; font-size: .875rem; }
.chart figcaption b { font-weight: 600; }
.chart figcaption span { color: var(--soft); font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 10.5px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .mark { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 3; }
svg polyline { fill: none; stroke: var(--accent); stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; }
svg circle { fill: var(--accent); }
svg circle.best { fill: var(--paper); stroke: var(--accent); stroke-width: 2; }
details { margin-top: 1.5rem; }
summary { color: var(--accent); cursor: pointer; font-size: .875rem; }
article { display: grid; grid-template-columns: minmax(0, 17rem) minmax(0, 1fr); gap: .5rem 1.75rem; padding: 1.5rem 0;
  border-bottom: 1px solid var(--line); }
article > img { width: 100%; height: auto; border-radius: 3px; }
.caption { margin: 0; font-size: 1.375rem; line-height: 1.3; }
.facts { margin: .25rem 0 .75rem; color: var(--soft); font-size: .8125rem; font-variant-numeric: tabular-nums; }
.references { margin: 0; padding: 0; list-style: none; color: var(--soft); font-size: .875rem; }
.words { grid-column: 1 / -1; display: flex; flex-wrap: wrap; gap: .75rem .5rem; margin: .5rem 0 0; padding: 0;
  list-style: none; }
.words img { display: block; max-width: 112px; height: auto; border-radius: 2px; background: var(--panel); }
.words figcaption { max-width: 112px; padding-top: .2rem; font-size: .8125rem; line-height: 1.3;
  overflow-wrap: anywhere; }
.words small { color: var(--soft); font-size: inherit; font-variant-numeric: tabular-nums; }
footer { margin-top: 3rem; color: var(--soft); font-size: .8125rem; }
@media (max-width: 40rem) {
  body { padding-top: 1.5rem; }
  h1 { font-size: 2rem; }
  article { grid-template-columns: minmax(0, 1fr); }
  .words img, .words figcaption { max-width: 80px; }
}
@media print {
  :root { color-scheme: light; --paper: #fff; --panel: #fff; --ink: #000; --soft: #555; --line: #ccc;
    --accent: #8a3a14; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, summary, details:not([open]) { display: none; }
  article, figure, tr { break-inside: avoid; }
  h2, h3, h3 + p { break-after: avoid; }
  .scroll { overflow: visible; }
  details table { font-size: 6.5pt; }
  details .numbers th { padding-right: .4rem; white-space: normal; overflow-wrap: anywhere; }
  details td { padding-right: .4rem; }
  .words img, .words figcaption { max-width: 72px; }
}
"""
