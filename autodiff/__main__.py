"""`python -m autodiff` trains a classifier of handwritten digits; `python -m autodiff info` describes the machine."""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import autodiff as ad
from autodiff import train_digits
from autodiff._native import ffi, lib

Report = Callable[[int, float], None]


def bar(seeds: int, steps: int) -> Any:
    """A tqdm bar over all steps; None where tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=seeds * steps, unit=" steps", leave=False)


def lines(seed: int, steps: int, every: int = 500) -> Report:
    """Progress as a line now and then."""

    def report(step: int, loss: float) -> None:
        if step % every == 0 and step < steps:
            print(f"seed {seed}: step {step:,} of {steps:,}, loss {loss:.3f}", flush=True)

    return report


def draw(trained: train_digits.Trained, path: Path) -> str:
    """A picture of the loss and of some held-out digits as the network read them; returns what became of it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "none: matplotlib is not installed"
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2)
    axes = left.subplots()
    axes.plot(trained.losses, color="tab:blue", linewidth=0.6)
    axes.set(title=f"Test accuracy {trained.accuracy:.1%}", xlabel="step", ylabel="loss of the batch", yscale="log")
    right.suptitle("Held-out digits, and as what they were read")
    wrong = np.flatnonzero(trained.predictions != trained.data.test_labels)
    others = np.flatnonzero(trained.predictions == trained.data.test_labels)
    for place, i in zip(right.subplots(4, 6).flat, [*wrong[:6], *others[:24]], strict=False):
        place.imshow(trained.data.test_images[i].reshape(8, 8), cmap="gray_r")
        read, true = trained.predictions[i], trained.data.test_labels[i]
        title, color = (f"{read}", "black") if read == true else (f"{read}, not {true}", "tab:red")
        place.set_title(title, color=color, fontsize=9)
        place.axis("off")
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        return f"none: {path} cannot be written ({error.strerror})"
    return str(path.resolve())


def train(seeds: int, steps: int, picture: Path) -> None:
    """Train a network for each seed and report."""
    layers = "-".join(map(str, train_digits.SIZES))
    print(
        f"A {layers} network learns handwritten digits: {seeds} times {steps:,} steps of {train_digits.BATCH} images."
    )
    executable, compile_seconds = train_digits.compile_step()
    results: list[train_digits.Trained] = []
    progress = bar(seeds, steps)
    for seed in range(seeds):
        report = lines(seed, steps) if progress is None else lambda step, loss: progress.update()
        result = train_digits.train(executable, seed, steps, report)
        (print if progress is None else progress.write)(
            f"seed {seed}: test accuracy {result.accuracy:.2%}, last loss {result.losses[-1]:.3f}"
        )
        results.append(result)
    if progress is not None:
        progress.close()
    accuracies = [result.accuracy for result in results]
    speed = seeds * steps / sum(result.seconds for result in results)
    print(f"\ntest accuracy     {statistics.median(accuracies):.2%} (median; the worst {min(accuracies):.2%})")
    print(f"steps per second  {speed:,.0f}")
    print(f"compiled in       {1e3 * compile_seconds:.1f} ms")
    print(f"plan              {len(executable.plan.steps):,} steps, arena of {executable.plan.arena_size:,} bytes")
    print(f"picture           {draw(results[0], picture)}")


def instruction_sets() -> list[str]:
    """Those this build has and this machine can run."""
    found: list[str] = []
    while (name := lib.ad_isa_at(len(found))) != ffi.NULL:
        found.append(ffi.string(name).decode())
    return found


def info() -> None:
    """Versions, and what the native library found."""
    print(f"autodiff          {ad.__version__}")
    chosen, available = ffi.string(lib.ad_isa_selected()).decode(), ", ".join(instruction_sets())
    print(f"instruction set   {chosen} (available: {available})")
    print(f"threads           {ad.get_num_threads()} at most for each call (processors: {lib.ad_processors()})")
    print(f"Python            {platform.python_version()} on {platform.system()} {platform.machine()}")
    print(f"NumPy             {np.__version__}")
    print(f"cffi              {metadata.version('cffi')}")


def positive(text: str) -> int:
    """An argument that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    """What `python -m autodiff` runs."""
    parser = argparse.ArgumentParser("python -m autodiff", description="Train a classifier of handwritten digits.")
    commands = {"train": "train (the default)", "info": "say versions, instruction sets and threads"}
    parser.add_argument(
        "command", nargs="?", choices=commands, default="train", help=", ".join(map(": ".join, commands.items()))
    )
    parser.add_argument("--seeds", type=positive, default=5, help="how many networks to train (default: 5)")
    parser.add_argument(
        "--steps", type=positive, default=train_digits.STEPS, help="steps of each (default: %(default)s)"
    )
    parser.add_argument(
        "--picture", type=Path, default=Path("digits.png"), help="where the picture goes (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.command == "info":
        info()
    else:
        train(options.seeds, options.steps, options.picture)


if __name__ == "__main__":
    main()
