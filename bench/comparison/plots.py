"""Pictures of results; they need matplotlib."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from comparison.compare import Result
from comparison.peers import BOUND, OURS, PEERS
from comparison.report import duration, lines


def ratios(results: Sequence[Result], path: Path) -> None:
    """A bar for each peer in each row: its time as a multiple of this library's."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [line for line in lines(results) if OURS.title in line.seconds]
    bars = [[p.title for p in PEERS if p.title in line.seconds and p not in (OURS, BOUND)] for line in shown]
    height = sum(len(titles) + 1.5 for titles in bars)
    figure, axes = plt.subplots(figsize=(9, 1 + 0.15 * height), layout="constrained")
    colours = {peer.title: f"C{i}" for i, peer in enumerate(PEERS[1:-1])}
    y, ticks = 0.0, []
    for line, titles in zip(shown, bars, strict=True):
        ours = line.seconds[OURS.title]
        text = [*textwrap.wrap(line.title, 36), f"autodiff {duration(ours)}"]
        ticks.append((y + (len(titles) - 1) / 2, "\n".join(text)))
        for title in titles:
            ratio = line.seconds[title] / ours
            axes.barh(y, ratio - 1, left=1, color=colours[title], height=0.85)
            axes.annotate(
                f"{title} {duration(line.seconds[title])}",
                (max(ratio, 1), y),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
            )
            y += 1
        y += 1.5
    axes.set_yticks([at for at, _ in ticks], [text for _, text in ticks], fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlim(axes.get_xlim()[0], 30 * axes.get_xlim()[1])  # room for the last names
    axes.margins(y=0.01)
    axes.set_xlabel("time as a multiple of autodiff's (log scale; left of the line the peer is faster)")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=90)
    plt.close(figure)
