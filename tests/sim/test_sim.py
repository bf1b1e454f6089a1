# SPDX-License-Identifier: MIT
"""The simulator's program and what is made of its output. What the scheduler does there: tests/unit/test_sched_sim.c."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import plot  # noqa: E402
import sim  # noqa: E402

PROGRAM = os.environ.get("SIM", "")


def test_smoke():
    done = subprocess.run([sys.executable, "-B", HERE / "sim.py", "--program", PROGRAM, "--smoke"], capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["weights", "cap", "reserve", "storm", "mixed:"]


def test_windows_add_up():
    result = sim.run(PROGRAM, "weights", seconds=2, window=100)
    assert len(result["windows"]) == 20
    assert all(abs(sum(shares) - 1) < 1e-5 for _, shares in result["windows"])
    assert result["vp2.share"] == pytest.approx(0.7, rel=0.01)


def test_unknown_scenario():
    with pytest.raises(SystemExit, match="usage"):
        sim.run(PROGRAM, "nonsense")


def test_rows_of_others_stay(tmp_path):
    path = tmp_path / "bench.tsv"
    path.write_text("exit.cpuid\t100\tinstructions\nsched.x\t1\tus\n")
    sim.write_rows(path, [("sched.x", "2", "us"), ("sched.y", "3", "%")])
    assert path.read_text() == ("exit.cpuid\t100\tinstructions\nsched.x\t2\tus\nsched.y\t3\t%\n")


def test_plots_are_xml(tmp_path):
    chart = plot.Chart("a < b & c", "x", "y", (1, 100), (0, 50), log_x=True)
    chart.line([(1, 0), (10, 25), (1000, 60)], "line <1>", color=0)
    chart.rule(20, color=1)
    plot.write(tmp_path / "plot.svg", [chart, chart])
    root = ET.parse(tmp_path / "plot.svg").getroot()
    lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    # The last point lies outside and is drawn at the edge.
    assert [line.get("points").split()[-1] for line in lines] == ["434.0,34.0"] * 2
