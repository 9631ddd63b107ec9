"""Grouped bars as an SVG text, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_COLORS = ("#7a8794", "#0b7a5c", "#b35900", "#5b4bb7")
_WIDTH, _BAR, _GAP, _LEFT, _LABEL = 720, 16, 14, 120, 70


def bars(title: str, series: Sequence[str], groups: Mapping[str, Sequence[float]]) -> str:
    """One group of horizontal bars for each entry; `series` names the bars of every group."""
    most = max(max(values) for values in groups.values())
    lines: list[str] = []
    y = 60
    for name, values in groups.items():
        lines.append(f'<text x="0" y="{y + _BAR * len(series) / 2 + 5}">{name}</text>')
        for number, value in enumerate(values):
            width = (_WIDTH - _LEFT - _LABEL) * value / most
            top = y + number * _BAR
            lines.append(
                f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR - 3}" fill="{_COLORS[number]}"/>'
            )
            lines.append(f'<text x="{_LEFT + width + 6:.1f}" y="{top + 11}">{value:,}</text>')
        y += _BAR * len(series) + _GAP
    legend = "".join(
        f'<rect x="{_LEFT + 140 * number}" y="26" width="12" height="12" fill="{_COLORS[number]}"/>'
        f'<text x="{_LEFT + 140 * number + 18}" y="37">{name}</text>'
        for number, name in enumerate(series)
    )
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" font-family="system-ui,sans-serif" '
        f'font-size="13">\n<rect width="{_WIDTH}" height="{y}" fill="#fff"/>\n<text x="0" y="16" font-weight="600">'
        f"{title}</text>\n{legend}\n{body}\n</svg>\n"
    )
