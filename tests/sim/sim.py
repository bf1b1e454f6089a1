#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the scheduler's simulator through its scenarios: prints a table, puts the figures into build/bench.tsv (the rows of
others stay) and draws the plots of docs/scheduler.md. All but the decisions in a second of the host is the same on
every machine. --smoke: seconds of it, nothing written."""

import argparse
import pathlib
import subprocess
import sys

import plot

SEED = "1"


def run(program, scenario, lps=1, vps=1, seconds=10, window=0):
    """The simulator's `name value` lines, and of windows and distributions lists under "windows" and "NAME.tail"."""
    command = [program, scenario, *map(str, (lps, vps, seconds, SEED, window))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
    result = {"windows": []}
    for line in done.stdout.splitlines():
        name, *values = line.split()
        numbers = [float(value) for value in values]
        if name == "window":
            result["windows"].append((numbers[0], numbers[1:]))
        elif name.endswith(".tail"):
            result.setdefault(name, []).append(tuple(numbers))
        else:
            result[name] = numbers[0]
    return result


def write_rows(path, rows):
    """As tests/bench/bench.py has them: metric, value, unit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    old = [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []
    mine = {row[0] for row in rows}
    kept = [row for row in old if row[0] not in mine]
    path.write_text("".join("\t".join(row) + "\n" for row in [*kept, *rows]))


def report(name, result):
    print(f"  {name:34} share error {result['share_error.mean_pct']:7.3f} % mean {result['share_error.max_pct']:8.3f} % max;"
          f" cap exceeded by {result['cap_over_pct']:.3f} %; wake p50/p99/p99.9/max"
          f" root {latencies(result, 'root')}, modest {latencies(result, 'modest')}, other {latencies(result, 'other')} us;"
          f" {result['moves']:.0f} moves; {result['decisions_per_s'] / 1e6:.1f} M decisions/s", flush=True)


def latencies(result, who):
    return "/".join(f"{result[f'{who}.{rank}_us']:.0f}" for rank in ("p50", "p99", "p99.9", "max"))


def draw_shares(program, folder):
    """What each VP gets of an LP in windows of 50 ms, in three situations."""
    shares = {name: run(program, name, seconds=2, window=50)["windows"] for name in ("weights", "cap", "reserve")}
    panels = [
        ("weights", "Weights 100, 200 and 700", ("weight 100", "weight 200", "weight 700"), (10, 20, 70)),
        ("cap", "Equal weights, one with a cap of 25 %", ("capped", "other", "other"), (25, 37.5, 37.5)),
        ("reserve", "Weight 10 with a reserve of 40 %, two of weight 1000", ("reserve", "heavy", "heavy"), (40, 30, 30)),
    ]
    charts = []
    for name, title, labels, ideals in panels:
        chart = plot.Chart(title, "time (s)", "share of the LP in 50 ms (%)", (0, 2), (0, 100))
        for index, label in enumerate(labels):
            points = [(end / 1000, 100 * values[index]) for end, values in shares[name]]
            chart.line(points, label, color=index)
            chart.rule(ideals[index], color=index)
        charts.append(chart)
    plot.write(folder / "scheduler-shares.svg", charts)


def draw_latency(folder, crowds):
    chart_of = {}
    for who, title in (("root", "The root's VPs (weight 1000, reserve 20 %)"), ("modest", "VPs that want at most half their part")):
        chart = plot.Chart(title, "waited longer than (us)", "of all wake-ups", (1, 1e5), (1e-5, 1), log_x=True, log_y=True)
        for index, (name, result) in enumerate(crowds):
            tail = [(us, part) for us, part in result.get(f"{who}.tail", []) if part > 0 and us >= 1]
            if tail:
                chart.line(tail, name, color=index)
        chart_of[who] = chart
    plot.write(folder / "scheduler-latency.svg", list(chart_of.values()))


def draw_errors(program, folder):
    """How the error of shares shrinks with the time that is looked at, where VPs stay on their LP."""
    chart = plot.Chart("64 LPs, 640 VPs of all kinds, on their LPs", "time looked at (s)", "share error of a busy VP (%)", (1, 100),
                       (0.001, 100), log_x=True, log_y=True)
    results = [(seconds, run(program, "pinned", 64, 640, seconds)) for seconds in (1, 2, 3, 5, 10, 20, 40, 60)]
    for index, (key, label) in enumerate((("max", "worst of all"), ("mean", "mean"))):
        chart.line([(seconds, result[f"share_error.{key}_pct"]) for seconds, result in results], label, color=index)
    chart.rule(1, color=2)
    plot.write(folder / "scheduler-error.svg", [chart])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="the simulator")
    parser.add_argument("--bench", help="table to put figures into")
    parser.add_argument("--docs", help="folder for the plots")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()

    for name in ("weights", "cap", "reserve", "storm"):
        report(name, run(args.program, name, seconds=1 if args.smoke else 10))
    if args.smoke:
        report("mixed: 2 LPs, 10 VPs", run(args.program, "mixed", 2, 10, 1))
        return
    few = run(args.program, "mixed", 2, 20, 300)
    report("mixed: 2 LPs, 20 VPs", few)
    pinned = run(args.program, "pinned", 64, 640)
    report("pinned: 64 LPs, 640 VPs", pinned)
    crowds = []
    for vps in (192, 640, 2560):
        result = run(args.program, "mixed", 64, vps)
        crowds.append((f"{vps // 64} VPs on an LP", result))
        report(f"mixed: 64 LPs, {vps} VPs", result)
    most = run(args.program, "mixed", 1024, 100000, 5)
    report("mixed: 1024 LPs, 100000 VPs", most)
    rows = [
        ("sched.share_error_pct", f"{pinned['share_error.max_pct']:.3f}", "%"),
        ("sched.wake_p99_us", f"{crowds[1][1]['modest.p99_us']:.0f}", "us"),
        ("sched.root_wake_p99.9_us", f"{crowds[1][1]['root.p99.9_us']:.0f}", "us"),
        ("sched.cap_over_pct", f"{pinned['cap_over_pct']:.3f}", "%"),
        ("sched.sim.decisions_per_s.2lp", f"{few['decisions_per_s']:.0f}", "1/s"),
        ("sched.sim.decisions_per_s.1024lp", f"{most['decisions_per_s']:.0f}", "1/s"),
    ]
    for name, value, unit in rows:
        print(f"  {name:36} {value:>14} {unit}")
    if args.bench:
        write_rows(pathlib.Path(args.bench), rows)
    if args.docs:
        folder = pathlib.Path(args.docs)
        draw_shares(args.program, folder)
        draw_latency(folder, crowds)
        draw_errors(args.program, folder)


if __name__ == "__main__":
    main()
