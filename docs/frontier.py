"""Make the table in docs/frontier.md and the picture docs/frontier.svg anew from what the benchmark printed.

make --silent bench ARGS=frontier > frontier.json
python docs/frontier.py frontier.json
"""

import json
import math
import sys
from pathlib import Path

from jinja2 import Environment

from retrain.report.charts import SIDE, Axis

STRETCH = 2.5  # the picture is wider than high
START, END = "<!-- table -->\n", "<!-- end -->\n"
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="-60 -20 {{ side * stretch + 90 }} {{ side + 75 }}" role="img">
<title>Accuracy against seconds</title>
<style>
  text { font: 11px sans-serif; fill: #5a606b } .name { fill: #1b1d21 } line { stroke: #d9dce1 }
  polyline { fill: none; stroke: #1f5fbf; stroke-width: 1.5 } circle { fill: #fff; stroke: #5a606b }
  .best { fill: #1f5fbf; stroke: #1f5fbf } .preset { font-weight: bold }
</style>
<rect x="-60" y="-20" width="100%" height="100%" fill="#fff"/>
{% for value, label in y.ticks %}
<line x2="{{ side * stretch }}" y1="{{ side - y.place(value) }}" y2="{{ side - y.place(value) }}"/>
<text x="-8" y="{{ side - y.place(value) + 4 }}" text-anchor="end">{{ label }}</text>
{% endfor %}
{% for value, label in x.ticks %}
<text x="{{ x.place(value) * stretch }}" y="{{ side + 18 }}" text-anchor="middle">{{ label }}</text>
{% endfor %}
<text x="{{ side * stretch / 2 }}" y="{{ side + 40 }}" text-anchor="middle">{{ x.title }}</text>
<text x="-45" y="-8">{{ y.title }}</text>
<polyline points="{% for row in best %}{{ places[row.what] | join(',') }} {% endfor %}"/>
{% for row in rows %}
<circle class="{{ 'best' if row.frontier }}" cx="{{ places[row.what][0] }}" cy="{{ places[row.what][1] }}" r="3.5">
<title>{{ row.what }}</title></circle>
{% if row.preset %}
<text class="preset name" x="{{ places[row.what][0] + 6 }}" y="{{ places[row.what][1] + 14 }}">
{{- row.preset }}: {{ row.what }}</text>
{% elif row.frontier %}
<text class="name" x="{{ places[row.what][0] - 6 }}" y="{{ places[row.what][1] - 6 }}" text-anchor="end">
{{- row.what }}</text>
{% endif %}
{% endfor %}
</svg>
"""


def draw(rows):
    """SVG of the rows that have a time."""
    low, high = (edge([row["mean %"] for row in rows]) for edge in (min, max))
    levels = range(math.floor(low), math.ceil(high) + 1)
    y = Axis(levels[0], levels[-1], [(level, f"{level} %") for level in levels], "mean accuracy over the picture sets")
    times = [row["times fast"] for row in rows]
    fast = next(row["ms a picture"] for row in rows if row["preset"] == "fast")
    ticks = [(time, f"×{time:g}") for time in (0.75, 1, 1.5, 2, 3, 4, 6, 8, 12) if min(times) <= time <= max(times)]
    title = f"processor time a picture, decoding included, in times of {fast:.1f} ms"
    x = Axis(min(times) / 1.2, max(times), ticks, title, logarithmic=True)
    places = {row["what"]: (x.place(row["times fast"]) * STRETCH, SIDE - y.place(row["mean %"])) for row in rows}
    best = sorted((row for row in rows if row["frontier"]), key=lambda row: row["times fast"])
    template = Environment(autoescape=True, trim_blocks=True).from_string(SVG)
    return template.render(x=x, y=y, side=SIDE, stretch=STRETCH, rows=rows, best=best, places=places)


def tabulate(rows):
    """Markdown."""
    columns = [column for column in rows[0] if column not in ("what", "preset")]
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    for row in rows:
        name = row["what"] + (f" **{row['preset']}**" if row.get("preset") else "")
        lines.append([name, *(str(row.get(column, "")) for column in columns)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(result):
    rows = json.loads(Path(result).read_text(encoding="utf-8"))["rows"]
    embedded = [row for row in rows if "times fast" in row]
    page = Path(__file__).with_suffix(".md")
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    tables = tabulate(embedded) + "\n" + tabulate([row for row in rows if row not in embedded])
    page.write_text(before + START + "\n" + tables + "\n" + END + after, encoding="utf-8")
    page.with_suffix(".svg").write_text(draw(embedded), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
