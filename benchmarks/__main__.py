"""Measure, and print the table with a verdict per line. `--json FILE` writes the same for programs."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import floor, probes
from benchmarks.probes import cpu_per_call, streaming, waiting
from benchmarks.subject import NO_GUESTS, Subject, subject

HI = {"text": "hi"}
TALK = {"messages": [{"type": "human", "content": "go"}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """`measured` in `unit`; for a ratio, `floor` is what it was divided by, in microseconds of CPU."""

    name: str
    measured: float
    budget: float
    unit: str
    floor: float | None = None

    @property
    def met(self) -> bool:
        return self.measured <= self.budget


class Table:
    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def add(self, name: str, measured: float, budget: float, unit: str, *, floor: float | None = None) -> None:
        value = measured / floor if floor else measured
        figure = Figure(name=name, measured=value, budget=budget, unit="x" if floor else unit, floor=floor)
        self.figures.append(figure)
        base = f"  ({measured:.0f} us over {floor:.0f} us)" if floor else ""
        verdict = "ok" if figure.met else f"MISSED by {100 * (value / budget - 1):.0f} %"
        print(f"{name:<52} {value:>9.2f} {figure.unit:<4} budget {budget:>7.1f}   {verdict}{base}", flush=True)


async def _runs(table: Table, server: Subject, scale: float) -> None:
    echo = await floor.echo_run()
    many = int(2000 * scale)
    table.add(
        "echo run, wait, 50 connections: CPU",
        await cpu_per_call(server, waiting("echo", HI), many, 50),
        3,
        "x",
        floor=echo,
    )
    stream = streaming("echo", HI, "values")
    table.add("echo run, stream, 50 connections: CPU", await cpu_per_call(server, stream, many, 50), 3, "x", floor=echo)
    table.add(
        "echo run, wait, 1 connection: CPU",
        await cpu_per_call(server, waiting("echo", HI), int(400 * scale), 1),
        6,
        "x",
        floor=echo,
    )
    table.add("statements per echo run", await probes.statements_per_run(server, waiting("echo", HI), 50), 3, "")
    table.add("durable commits per echo run", await probes.commits_per_run(server, waiting("echo", HI), 50), 2.1, "")
    steps = waiting("steps", {"left": 100}, config={"recursion_limit": 1000})
    table.add("statements per 100-step run", await probes.statements_per_run(server, steps, 10), 6, "")
    step = await floor.superstep()
    table.add("superstep, async: CPU", await cpu_per_call(server, steps, int(30 * scale), 1) / 100, 2, "x", floor=step)
    sync = waiting("steps", {"left": 100}, config={"recursion_limit": 1000}, durability="sync")
    table.add("superstep, sync: CPU", await cpu_per_call(server, sync, int(20 * scale), 1) / 100, 4, "x", floor=step)


async def _streams(table: Table, server: Subject, scale: float) -> None:
    token = await floor.token()
    for streams in (10, 100):
        talk = streaming("talker", TALK, "messages-tuple")
        cost = await cpu_per_call(server, talk, int(2 * streams * max(scale, 0.5)), streams) / 200
        table.add(f"token event, {streams} streams: CPU", cost, 3, "x", floor=token)
    custom = await cpu_per_call(server, streaming("customs", {"left": 2000}, "custom"), int(10 * scale) or 2, 1) / 2000
    table.add("custom event: CPU", custom, 25, "us")
    samples = [await probes.first_event(server) for _ in range(3)]
    table.add("first event of a stream, idle server, p50", statistics.median(samples), 7, "ms")
    table.add("50 paced streams: first token p50", await probes.paced_streams(server), 150, "ms")


async def _threads(table: Table, server: Subject) -> None:
    table.add("POST /threads: CPU", await probes.new_thread(server) / 1000, 0.7, "ms")
    thread = await probes.long_thread(server)
    turn = await floor.long_turn()
    table.add("one more turn on 1000 messages: CPU", await probes.next_turn(server, thread), 3, "x", floor=turn)
    table.add("GET state, 1000 messages: p50", await probes.latency(server, "GET", f"/threads/{thread}/state"), 5, "ms")
    history = await probes.latency(server, "POST", f"/threads/{thread}/history", {"limit": 10}, times=10)
    table.add("history(10), 1000 messages: p50", history, 25, "ms")
    table.add("search 100 of 10 000 threads by metadata: CPU", await probes.search(server), 2, "ms")
    blob = waiting("big", {"blob": "x" * 262_144})
    table.add("256 KiB in the state, 5 touches: CPU", await cpu_per_call(server, blob, 30, 1) / 1000, 15, "ms")


async def measure(table: Table, scale: float, idle_seconds: float) -> None:
    imports = probes.import_seconds()
    with subject(NO_GUESTS) as server:  # this start also warms the disk's cache for the next one
        weight = server.rss() / 2**20
    with subject() as server:
        table.add("start, as a multiple of importing the libraries", server.start_seconds / imports, 2, "x")
        table.add("RSS at start, without guests", weight, 130, "MiB")
        table.add("idle CPU a minute", await probes.idle_cpu(server, idle_seconds), 150, "ms")
        await _runs(table, server, scale)
        await _streams(table, server, scale)
        await _threads(table, server)
    with subject() as server:  # a new one: what the others did has left room in its heap
        table.add("RSS growth over 10 000 runs", await probes.rss_growth(server, int(10_000 * scale)), 40, "MiB")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--scale", type=float, default=1.0, help="do this fraction of the work (default 1)")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds to watch the idle server (default 20)")
    arguments = parser.parse_args()
    table = Table()
    asyncio.run(measure(table, arguments.scale, arguments.idle))
    missed = [figure.name for figure in table.figures if not figure.met]
    print(f"\n{len(table.figures) - len(missed)} of {len(table.figures)} within budget")
    if arguments.json:
        rows = [{**asdict(figure), "met": figure.met} for figure in table.figures]
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
