"""The chart of docs/explanation/speed.md, from the figures of a run: ``chart.py [FILE.json] [--into FILE.svg]``.

CPU time of a request by client, as bars from zero. Of ``make bench-peers`` where the figures have it, since all clients
of a chart should have taken turns in one run; else of ``make bench``. SVG as text: the docs load nothing and the same
figures give the same bytes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
PUBLISHED = HERE / "results" / "published.json"
PICTURE = HERE.parent / "docs" / "assets" / "cost-per-request.svg"
CELL = "0 ms, 64 at once"

LABELS = {
    "bare": "bare aiohttp",
    "stream": "`Pipeline.stream`",
    "job": "`promptmill run`",
    "bare_pyreqwest": "bare pyreqwest",
    "stream_pyreqwest": "`Pipeline.stream`, pyreqwest",
    "job_pyreqwest": "`promptmill run`, pyreqwest",
    "article": "the article's program",
    "stream_httpx": "`Pipeline.stream`, httpx",
    "openai_sdk": "the official SDK",
    "wrk": "wrk",
}

_WIDTH, _LEFT, _RIGHT = 760, 250, 70
_TOP, _ROW, _BAR = 58, 30, 18
_SVG = "http://www.w3.org/2000/svg"
_OURS = ("stream", "job")

_STYLE = """
    text { font: 14px system-ui, sans-serif; fill: #1f2328 }
    .head { font-weight: 600; font-size: 16px }
    .note { font-size: 12px; fill: #59636e }
    .other { fill: #8c959f }
    .ours { fill: #4051b5 }
    .axis { stroke: #59636e }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6e8eb }
      .note { fill: #a5adb8 }
      .other { fill: #6e7681 }
      .ours { fill: #8c9eff }
      .axis { stroke: #a5adb8 }
    }
  """


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def bars(found: dict[str, Any]) -> list[tuple[str, float, bool]]:
    """Label, microseconds, and whether it is promptmill, the cheapest first."""
    source = found.get("peers", found)
    labels = source.get("labels", {})
    rows = []
    for key, one in source["http"][CELL].items():
        name, _, loop = key.partition("/")
        if name == "wrk" or (loop == "asyncio" and f"{name}/uvloop" in source["http"][CELL]):
            continue  # wrk is no client one could use; one loop of each is enough
        label = labels.get(key) or LABELS[name]
        rows.append((label.replace("`", ""), float(one["cpu_us"]), name.startswith(_OURS)))
    return sorted(rows, key=lambda row: row[1])


def svg(found: dict[str, Any]) -> str:
    rows = bars(found)
    most = max(value for _, value, _ in rows)
    height = _TOP + _ROW * len(rows) + 34
    title = "CPU time of one request, by client"
    desc = "; ".join(f"{label}: {value:,.0f} microseconds" for label, value, _ in rows)
    what = "microseconds of one core, less is better; the server answers at once, 64 calls at once"
    lines = [
        f'<svg xmlns="{_SVG}" viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="title desc">',
        f'  <title id="title">{title}</title>',
        f'  <desc id="desc">{escape(desc)}.</desc>',
        f"  <style>{_STYLE}</style>",
        f'  <text class="head" x="0" y="18">{title}</text>',
        f'  <text class="note" x="0" y="38">{what}</text>',
    ]
    for at, (label, value, ours) in enumerate(rows):
        y = _TOP + _ROW * at
        width = max((_WIDTH - _LEFT - _RIGHT) * value / most, 1)
        middle = y + _BAR - 4
        lines += [
            f'  <text x="{_LEFT - 10}" y="{middle}" text-anchor="end">{escape(label)}</text>',
            f'  <rect class="{"ours" if ours else "other"}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}"/>',
            f'  <text x="{_LEFT + width + 8:.1f}" y="{middle}">{value:,.0f}</text>',
        ]
    end = _TOP + _ROW * len(rows)
    lines += [
        f'  <line class="axis" x1="{_LEFT}" y1="{_TOP - 6}" x2="{_LEFT}" y2="{end - 4}"/>',
        f'  <text class="note" x="0" y="{end + 20}">{escape(_source(found))}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _source(found: dict[str, Any]) -> str:
    source = found.get("peers", found)
    one = source["machine"]
    return f"{one['cpu']}, Python {one['python']}, {source['when'][:10]}, commit {one['commit']}; promptmill in colour"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, nargs="?", default=PUBLISHED, help="default: results/published.json")
    parser.add_argument("--into", type=Path, default=PICTURE, help="default: the chart of the docs")
    asked = parser.parse_args()
    asked.into.parent.mkdir(parents=True, exist_ok=True)
    asked.into.write_text(svg(load(asked.figures)), encoding="utf-8")


if __name__ == "__main__":
    main()
