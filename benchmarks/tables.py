"""The tables of docs/explanation/speed.md, from the figures of a run: ``tables.py [FILE.json] [--into PAGE.md]``.

Prints them, or puts each between its marks in the page (``<!-- begin NAME -->`` and ``<!-- end NAME -->``), so that no
figure is copied by hand.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import part_latency
import part_million
import part_startup
import part_workers
import parts
from chart import LABELS, PUBLISHED, load

Figures = dict[str, Any]
AT_ONCE = (64, 256, 1000)
DELAYS = (0, 20, 200)


def machine(found: Figures) -> Iterator[str]:
    one = found["machine"]
    versions, programs = one["versions"], one["programs"]
    names = ("aiohttp", "pyreqwest", "httpx", "openai", "msgspec", "pydantic", "uvloop")
    known = [f"{name} {versions[name]}" for name in names if name in versions]
    known += [f"{name} {version}" for name, version in programs.items()]
    pinned = "clients on one core, the server on another" if found["pinned"] else "not pinned to cores"
    scale = "" if found["scale"] == 1 else f" A run of {found['scale']:g} times the usual requests."
    runs = len(next(iter(found["rounds"].values())))
    yield (
        f"{one['cpu']}, {one['cores']} cores, {one['memory_gib']} GiB, {one['system']}, Python {one['python']}; "
        f"{', '.join(known)}. {found['when'][:10]}, commit {one['commit']}, {runs} rounds, {pinned}; load of the "
        f"machine {one['load_average'][0]:g} at the start and {found['load_average_after'][0]:g} at the end.{scale}"
    )


def short(found: Figures) -> Iterator[str]:
    """What matters most, as sentences."""
    for name, what in _SHORT.items():
        if each := _over_cells(found, name, "cpu_us"):
            line = f"- {what} **{each[0]:,.0f} to {each[1]:,.0f} microseconds of CPU**"
            if above := _over_cells(found, name, "above_bare_us"):
                line += f", {above[0]:+,.0f} to {above[1]:+,.0f} against the bare client over the same backend"
            yield f"{line}."
    others = {name: _over_cells(found, name, "cpu_us") for name in _OTHERS}
    told = [f"{LABELS[name]} {each[0]:,.0f} to {each[1]:,.0f}" for name, each in others.items() if each]
    yield f"- For comparison: {', '.join(told)}. None of them keeps anything on disk."
    at_once = found["claim"]["at_once_s"]
    told = [f"{seconds:.2f} s with {LABELS[key.partition('/')[0]]}" for key, seconds in at_once.items()]
    yield f"- A hundred calls of 200 ms take {', '.join(told)}, and {found['claim']['one_by_one_s']:.1f} s one by one."
    many = found["million"]["million"]
    yield f"- A job of {many['requests']:,} rows, with journal and sink, peaks at {many['peak_mib']:.0f} MiB."
    added = [one["added_ms"] for one in found["latency"].values()]
    yield (
        f"- At half of what one core can do, promptmill adds at most {max(one['p50'] for one in added):.1f} ms to half "
        f"of the calls, and {max(one['p99'] for one in added):.1f} ms to 99 of 100."
    )


_SHORT = {
    "job": "`promptmill run`, with input checked, template, limits, a synced journal and a jsonl sink, costs a request",
    "job_pyreqwest": "The same over pyreqwest costs",
    "stream": "As a library, without journal and sink, it costs",
    "stream_pyreqwest": "The same over pyreqwest costs",
}
_OTHERS = ("bare", "bare_pyreqwest", "article", "openai_sdk", "wrk")


def _over_cells(found: Figures, name: str, figure: str) -> tuple[float, float] | None:
    """The lowest and the highest median of a case over all delays and concurrencies; uvloop where there are both."""
    loops = ("uvloop", "asyncio", "")
    for loop in loops:
        each = [cell[f"{name}/{loop}"].get(figure) for cell in found["http"].values() if f"{name}/{loop}" in cell]
        if known := [one for one in each if one is not None]:
            return min(known), max(known)
    return None


def resume(found: Figures) -> Iterator[str]:
    one = found["parts"]["resume"]
    yield (
        f"A job of {one['rows']:,} rows whose last process left one: {one['first_answer_s']:.2f} s from the start of "
        f"the program to that one's answer, {one['end_s']:.2f} s to the end, {one['peak_mib']:.0f} MiB."
    )


def cost(found: Figures, delay: int) -> Iterator[str]:
    """CPU time and rate of each case at one delay of the server."""
    cells = {calls: found["http"][f"{delay} ms, {calls} at once"] for calls in AT_ONCE}
    head = ["case", "event loop", *(part for calls in AT_ONCE for part in (f"{calls:,} at once", ""))]
    rows = []
    for key in dict.fromkeys(key for cell in cells.values() for key in cell):
        row = [LABELS[key.partition("/")[0]], key.partition("/")[2]]
        for cell in cells.values():
            row += _cost(cell[key]) if key in cell else ["", ""]
        rows.append(row)
    yield from markdown(head, rows, left=2)


def above(found: Figures) -> Iterator[str]:
    """What promptmill takes above the bare client over the same backend."""
    head = ["case", "event loop", *(f"{delay} ms, {calls:,}" for delay in DELAYS for calls in AT_ONCE)]
    cells = [found["http"][f"{delay} ms, {calls} at once"] for delay in DELAYS for calls in AT_ONCE]
    rows = []
    for key in dict.fromkeys(key for cell in cells for key in cell):
        name, _, loop = key.partition("/")
        if name.startswith(("stream", "job")) and any("above_bare_us" in cell.get(key, {}) for cell in cells):
            rows.append([LABELS[name], loop, *(_above(cell.get(key, {})) for cell in cells)])
    yield from markdown(head, rows, left=2)


def claim(found: Figures) -> Iterator[str]:
    one_by_one = found["claim"]["one_by_one_s"]
    rows = [["one by one", f"{one_by_one:.2f}", "1"]]
    for key, seconds in found["claim"]["at_once_s"].items():
        rows.append([LABELS[key.partition("/")[0]], f"{seconds:.3f}", f"{one_by_one / seconds:.0f}"])
    yield from markdown(["case", "seconds", "times as fast"], rows)


def engine(found: Figures) -> Iterator[str]:
    each = found["parts"]["each_us"]
    rows = [
        [label, *(f"{each[f'engine/{mode}/{loop}']:.0f}" for loop in parts.LOOPS)]
        for mode, label in parts.ENGINE.items()
    ]
    yield from markdown(["part", *parts.LOOPS], rows)


def rows_and_shards(found: Figures) -> Iterator[str]:
    each, rate = found["parts"]["each_us"], found["parts"]["rate"]
    named = {f"rows/{mode}": label for mode, label in parts.ROWS.items()}
    named |= {f"shard/{mode}": label for mode, label in parts.SHARD.items()}
    rows = [[label, f"{each[key]:.1f}", f"{rate[key]:,.0f}"] for key, label in named.items()]
    yield from markdown(["part", "CPU", "rows a second"], rows)


def latency(found: Figures) -> Iterator[str]:
    head = ["server", "requests a second", "server's p50 / p99", "promptmill's p50 / p99", "added p50 / p99"]
    rows = []
    for delay, one in found["latency"].items():
        told = [f"{one[name]['p50']:.2f} / {one[name]['p99']:.2f}" for name in ("server_ms", "promptmill_ms")]
        added = f"{one['added_ms']['p50']:+.2f} / {one['added_ms']['p99']:+.2f}"
        rows.append([f"{delay} ms", f"{one['rate']:,.0f} of {one['capacity']:,.0f}", *told, added])
    wanted = f"{part_latency.TARGET_P50_MS:g} / {part_latency.TARGET_P99_MS:g}"
    yield from markdown(head, [*rows, ["wanted at most", "", "", "", wanted]])


def workers(found: Figures) -> Iterator[str]:
    one = found["workers"]
    rows = []
    for count, each in one["workers"].items():
        costs = one["rounds"][count]["cpu_us"]
        cost = f"{each['cpu_us']:,.0f} ({min(costs):,.0f}-{max(costs):,.0f})"
        rates = [f"{each['rate']:,.0f}/s", f"{each['times']:.2f}"]
        rates += [f"{each['elsewhere']:,.0f}/s", f"{each['times_elsewhere']:.2f}"]
        rows.append([count, cost, f"{each['server_us']:,.0f}", *rates])
    head = ["workers", "CPU, all processes", "the server's", "requests", "times", "server elsewhere", "times"]
    yield from markdown(head, [*rows, ["wanted at least", "", "", "", "", "", f"{part_workers.TARGET}"]])
    if "commit" in one:  # taken by itself, after the rest
        yield from ("", f"Measured at commit {one['commit']}.")


def startup(found: Figures) -> Iterator[str]:
    rows = []
    for name, label in part_startup.LABELS.items():
        all_ = found["startup"]["rounds"][name]
        spread = f"{1000 * found['startup']['median_s'][name]:.0f} ({1000 * min(all_):.0f}-{1000 * max(all_):.0f})"
        rows.append([label, spread, str(part_startup.TARGETS_MS.get(name, ""))])
    yield from markdown(["", "ms", "wanted at most"], rows)


def million(found: Figures) -> Iterator[str]:
    many, waiting = (found["million"][name] for name in ("million", "waiting"))
    head = ["requests", *(f"{one['requests']:,}" for one in many["samples"]), "peak", "wanted at most"]
    memory = ["MiB", *(f"{one['rss_mib']:.0f}" for one in many["samples"]), f"{many['peak_mib']:.0f}"]
    yield from markdown(head, [[*memory, str(part_million.MOST_MIB)]])
    yield ""
    yield f"- That run: {many['rate']:,.0f} requests a second with its check, {many['cpu_us']:.0f} us of CPU each."
    yield (
        f"- Waiting for a limit of {part_million.RPM} a minute with room for {part_million.WAITING_AT_ONCE} at once, "
        f"{waiting['seconds']:.0f} s: {100 * waiting['core_share']:.1f} % of a core "
        f"(wanted less than {100 * part_million.MOST_SHARE:.0f} %)."
    )
    yield from (f"- {part_million.connected(delay, one)}" for delay, one in found["million"]["connections"].items())


def peers(found: Figures) -> Iterator[str]:
    one = found["peers"]
    head = ["client", *(part for key in one["http"] for part in (f"server {key}", "", ""))]
    rows = []
    for key in dict.fromkeys(key for cell in one["http"].values() for key in cell):
        row = [one["labels"][key]]
        for cell in one["http"].values():
            row += [*_cost(cell[key]), f"{cell[key]['peak_mib']:.0f} MiB"] if key in cell else ["", "", ""]
        rows.append(row)
    yield from markdown(head, rows)
    pinned = {"openai": "openai", "litellm": "litellm", "lm_deluge": "lm-deluge", "curator": "bespokelabs-curator"}
    told = [
        f"{package} {version}"
        for name, package in pinned.items()
        for installed, version in one["versions"].get(name, {}).items()
        if installed.replace("_", "-") == package
    ]
    yield ""
    yield f"Versions: {', '.join(told)}."
    yield from (f"Left out: {name}: {reason.splitlines()[0]}." for name, reason in one["left_out"].items())


TABLES: dict[str, Callable[[Figures], Iterator[str]]] = {
    "short": short,
    "machine": machine,
    "cost-0": lambda found: cost(found, 0),
    "cost-20": lambda found: cost(found, 20),
    "cost-200": lambda found: cost(found, 200),
    "above": above,
    "claim": claim,
    "engine": engine,
    "rows": rows_and_shards,
    "resume": resume,
    "latency": latency,
    "startup": startup,
    "workers": workers,
    "million": million,
    "peers": peers,
}


def page_with(text: str, found: Figures) -> str:
    """``text`` with every table between its marks. Raises ValueError when a mark names no table."""
    for name in re.findall(r"<!-- begin ([\w-]+) -->", text):
        if name not in TABLES:
            raise ValueError(f"there is no table {name!r}")
        table = "\n".join(TABLES[name](found))
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{table}\n\n{end}{rest.partition(end)[2]}"
    return text


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> Iterator[str]:
    """A table; all columns but the first ``left`` are numbers."""
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' if at < left else '--:' for at in range(len(head)))} |"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _cost(one: Figures) -> list[str]:
    spread = f"{one['cpu_us_lowest']:,.0f}-{one['cpu_us_highest']:,.0f}"
    return [f"{one['cpu_us']:,.0f} ({spread})", f"{one['rate']:,.0f}/s"]


def _above(one: Figures) -> str:
    return f"{one['above_bare_us']:+,.0f}" if "above_bare_us" in one else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, nargs="?", default=PUBLISHED, help="default: results/published.json")
    parser.add_argument("--into", type=Path, help="the page to put them into")
    asked = parser.parse_args()
    found = load(asked.figures)
    if asked.into:
        asked.into.write_text(page_with(asked.into.read_text("utf-8"), found), encoding="utf-8")
        return
    for name, table in TABLES.items():
        print(f"<!-- begin {name} -->", *table(found), f"<!-- end {name} -->", "", sep="\n")


if __name__ == "__main__":
    main()
