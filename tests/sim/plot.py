# SPDX-License-Identifier: MIT
"""Line charts as SVG, side by side, with nothing but the standard library. The same points give the same bytes."""

import math
from html import escape

WIDTH, HEIGHT = 460, 330
LEFT, RIGHT, TOP, BOTTOM = 62, 26, 34, 48
# Of Okabe and Ito: told apart by everybody.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
INK, GRID = "#333333", "#dddddd"


class Chart:
    def __init__(self, title, x_label, y_label, x_range, y_range, log_x=False, log_y=False):
        self.title, self.labels = title, (x_label, y_label)
        self.ranges, self.logs = (x_range, y_range), (log_x, log_y)
        self.lines, self.rules = [], []

    def line(self, points, label, color):
        self.lines.append((points, label, color))

    def rule(self, y, color):
        """A dashed horizontal line: what should be."""
        self.rules.append((y, color))

    def place(self, axis, value):
        low, high = self.ranges[axis]
        value = min(max(value, low), high)
        if self.logs[axis]:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        part = (value - low) / (high - low)
        if axis == 0:
            return LEFT + part * (WIDTH - LEFT - RIGHT)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)

    def ticks(self, axis):
        low, high = self.ranges[axis]
        if self.logs[axis]:
            return [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
                    if low <= 10.0**power <= high]
        return [low + (high - low) * step / 5 for step in range(6)]

    def svg(self):
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        yield f'<text x="{LEFT}" y="18" font-weight="bold">{escape(self.title)}</text>'
        for value in self.ticks(0):
            x = self.place(0, value)
            yield f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="{GRID}"/>'
            yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>'
        for value in self.ticks(1):
            y = self.place(1, value)
            yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{GRID}"/>'
            yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        yield f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="{INK}"/>'
        yield f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(self.labels[0])}</text>'
        middle = (TOP + bottom) / 2
        yield (f'<text x="14" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 14 {middle:.0f})">'
               f"{escape(self.labels[1])}</text>")
        for y, color in self.rules:
            at = self.place(1, y)
            yield f'<path d="M{LEFT} {at:.1f}H{right}" stroke="{COLORS[color]}" stroke-dasharray="5 4"/>'
        for row, (points, label, color) in enumerate(self.lines):
            path = " ".join(f"{self.place(0, x):.1f},{self.place(1, y):.1f}" for x, y in points)
            yield f'<polyline points="{path}" fill="none" stroke="{COLORS[color]}" stroke-width="1.6"/>'
            at = TOP + 14 + 16 * row
            yield f'<path d="M{right - 130} {at - 4}h18" stroke="{COLORS[color]}" stroke-width="3"/>'
            yield f'<text x="{right - 106}" y="{at}">{escape(label)}</text>'


def write(path, charts):
    width = WIDTH * len(charts)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
             f'font-family="sans-serif" font-size="12" fill="{INK}">',
             f'<rect width="{width}" height="{HEIGHT}" fill="#ffffff"/>']
    for index, chart in enumerate(charts):
        lines += [f'<g transform="translate({WIDTH * index} 0)">', *chart.svg(), "</g>"]
    path.write_text("\n".join([*lines, "</svg>"]) + "\n")
