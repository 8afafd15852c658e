"""Is this library fast, beside others and beside NumPy code written by hand?

    python bench/peers.py [--rows rosenbrock-10 mlp] [--peers autodiff jax] [--seconds 1] [--timeout 25] [--threads 1]
                          [--out results]

Each row is a problem: value and gradient, NumPy arrays in and out (conversions count), --threads each, all on as many
cores.  Each peer solves it in a process of its own; the processes take turns in rounds, so that noise hits all alike,
and what is printed are medians.  Every peer's results are compared with a computation in double precision.

Peers that are not installed are left out and named.  `pip install autodiff-compiled[peers]` gets them; with matplotlib
there is also a plot.  With --out the results are written: peers.json, peers.md, peers.png.  The whole takes about ten
minutes, most of which is compile time of the peers: --timeout gives up those who take longer.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from comparison import import_time, report
from comparison.compare import Result, compare
from comparison.limits import limits
from comparison.peers import BOUND, OURS, PEERS
from comparison.rows import ROWS


def main(arguments: Sequence[str] | None = None) -> None:
    names = [row.name for row in ROWS] + [import_time.NAME]
    methods = [peer.method for peer in PEERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="ROW", help=", ".join(names))
    parser.add_argument("--peers", nargs="+", choices=methods, default=methods, metavar="PEER", help=", ".join(methods))
    parser.add_argument("--seconds", type=float, default=1.0, help="to run each peer in each row")
    parser.add_argument("--timeout", type=float, default=25.0, help="seconds until a first result at most")
    parser.add_argument("--threads", type=int, default=1, help="of each peer")
    parser.add_argument("--out", type=Path, help="directory for JSON, Markdown and a plot")
    options = parser.parse_args(arguments)

    wanted = [peer for peer in PEERS if peer.method in {OURS.method, BOUND.method, *options.peers}]
    peers = [peer for peer in wanted if peer.installed]
    described = report.about(peers, [peer for peer in wanted if not peer.installed], options.threads)
    described["limits"] = "; ".join(f"{name} {rate}" for name, rate in limits().items())
    results = [
        compare(row, peers, options.seconds, options.timeout, options.threads, progress(row.name))
        for row in ROWS
        if row.name in options.rows
    ]
    if import_time.NAME in options.rows:
        results.append(import_time.measure(peers, progress(import_time.NAME)))
    print(report.to_markdown(results, peers, described))
    if options.out:
        write(options.out, results, report.to_markdown(results, peers, described), report.to_json(results, described))


def write(directory: Path, results: Sequence[Result], markdown: str, json: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "peers.md").write_text(markdown)
    (directory / "peers.json").write_text(json)
    if importlib.util.find_spec("matplotlib"):
        from comparison import plots

        plots.ratios(results, directory / "peers.png")
    else:
        print("no plot: matplotlib is not installed", file=sys.stderr)


def progress(row: str) -> Callable[[str], None]:
    """Says what is going on, and for how long."""
    began = time.perf_counter()

    def say(what: str) -> None:
        print(f"{row}, {time.perf_counter() - began:.0f} s: {what}", file=sys.stderr, flush=True)

    return say


if __name__ == "__main__":
    main()
