"""The style sheet of the report."""

STYLE = """
:root { --page: #fff; --text: #16202a; --dim: #57636f; --line: #d8dee4; --fifo: #6b7680; --ordered: #1f6fb5;
  --uncapped: #b3590b; --ours: #0b7a55; --work: #c3ccd5; --warn: #8a4b00; }
@media (prefers-color-scheme: dark) { :root { --page: #12171c; --text: #e4e9ee; --dim: #9aa7b3; --line: #2d3640;
  --fifo: #97a3ae; --ordered: #62a8e8; --uncapped: #e8964a; --ours: #45c695; --work: #3b4650; --warn: #f0b266; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.45 system-ui, sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 1rem 1.2rem 3rem; }
h1 { font-size: 1.55rem; margin: 1rem 0 .2rem; } h2 { font-size: 1.05rem; margin: 0 0 .6rem; }
.notice { color: var(--warn); font-weight: 650; border-bottom: 1px solid var(--line); padding-bottom: .6rem; margin: 0; }
.about, .dim, figcaption { color: var(--dim); } .said { padding-left: 1.1rem; font-size: 1.05rem; }
.said li { margin: .35rem 0; } small { color: var(--dim); display: inline-block; min-width: 1.8rem; }
section { margin: 1.8rem 0; } figure { margin: 0; } figcaption { text-align: center; font-size: .9rem; }
svg { width: 100%; height: auto; display: block; overflow: visible; }
.legend { display: flex; flex-wrap: wrap; gap: .4rem 1.3rem; border-top: 1px solid var(--line); padding-top: .9rem; }
.legend span { color: var(--c); font-weight: 600; } .legend svg { width: 1.05rem; height: 1.05rem; display: inline-block;
  vertical-align: -.18rem; margin-right: .3rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; } .wide { overflow-x: auto; }
text { fill: var(--text); font-size: 12.5px; }
text.axis { fill: var(--dim); font-size: 11.5px; } text.name { font-weight: 650; }
text.value { fill: var(--c); font-size: 11.5px; }
line.grid { stroke: var(--line); } line.rule { stroke: var(--line); stroke-width: .7; }
.p-fifo, .p-flag { --c: var(--fifo); } .p-ordered { --c: var(--ordered); } .p-uncapped { --c: var(--uncapped); }
.p-ours { --c: var(--ours); }
g circle, g rect, g path, span circle, span rect, span path { fill: var(--c); stroke: var(--c); }
.hollow { fill: var(--page) !important; stroke-width: 1.8; } .bar { stroke: var(--c); stroke-width: 2.2; }
.curve { fill: none; stroke: var(--c); stroke-width: 2; } .p-flag .curve { stroke-dasharray: 3 4; }
.p-uncapped .curve { stroke-dasharray: 7 3; } .work { fill: var(--work); }
.readers { fill: none; stroke: var(--ours); stroke-width: 2; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; } th { text-align: left; font-weight: 600; }
td, th { padding: .22rem .6rem .22rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: top; }
td:last-child:not(.n) { white-space: normal; } .wide table { font-size: .82rem; }
tbody th { font-weight: 500; } .n { text-align: right; font-variant-numeric: tabular-nums; }
code { font-size: .92em; overflow-wrap: anywhere; }
footer { margin-top: 2rem; border-top: 1px solid var(--line); padding-top: .6rem; color: var(--warn); font-weight: 600; }
@media (max-width: 720px) { .pair { grid-template-columns: 1fr; } }
@media print { section { break-inside: avoid; } }
"""
