"""Builds the testbed from a seed: `python -m psr.testbed.build --out FOLDER [--seed 0] [--compare FOLDER]`.

Writes FOLDER/model (an ordinary Hugging Face folder), FOLDER/{persona,ifeval,axbench} and FOLDER/figures.json.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from psr.errors import PsrError

LINE_EVERY = 50  # steps between two lines where there is no terminal


def build(out: Path, *, steps: int, seed: int, threads: int, say: Callable[[str], None]) -> None:
    """Train, save and measure. The number of threads changes the last bits of a sum, so it is a parameter."""
    import torch
    from transformers import logging

    from psr.testbed.benchmarks import write_benchmarks
    from psr.testbed.measure import measure, write_figures
    from psr.testbed.tokenizer import build_tokenizer
    from psr.testbed.train import TrainSettings, train

    torch.set_num_threads(threads)
    logging.disable_progress_bar()
    write_benchmarks(out)
    tokenizer = build_tokenizer()
    with shown(steps, say) as progress:
        model = train(tokenizer, TrainSettings(steps=steps, seed=seed), progress=progress)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    write_figures(out, measure(out / "model", progress=say))


@contextmanager
def shown(steps: int, say: Callable[[str], None]) -> Iterator[Callable[[int, float], None]]:
    """A callback that shows training progress: a bar on a terminal, else a line every LINE_EVERY steps."""
    if not sys.stderr.isatty():
        yield lambda step, loss: say(f"step {step}/{steps} loss {loss:.3f}") if step % LINE_EVERY == 0 else None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=steps, loss=float("nan"))
        yield lambda step, loss: bar.update(task, completed=step, loss=loss)


def main(
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    seed: Annotated[int, typer.Option(help="The seed of weights and texts.")] = 0,
    steps: Annotated[int, typer.Option(help="Training steps.", min=1)] = 2400,
    threads: Annotated[int, typer.Option(help="Threads of a matrix product.", min=1)] = 2,
    compare: Annotated[Path | None, typer.Option(help="A testbed to compare with; status 1 when it differs.")] = None,
) -> None:
    """Build the testbed's language model and benchmark files."""
    from psr.testbed.compare import compare as compared

    try:
        if compare is not None and compare.resolve() == out.resolve():
            raise PsrError("a testbed cannot be compared with itself", where=out, do="Build it in another folder.")
        build(out, steps=steps, seed=seed, threads=threads, say=typer.echo)
        comparison = None if compare is None else compared(out, compare)
    except (PsrError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    if comparison is not None:
        typer.echo("\n".join(comparison.lines))
        raise typer.Exit(0 if comparison.same else 1)


if __name__ == "__main__":
    typer.run(main)
