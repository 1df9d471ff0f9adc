"""`psr`: make modules and steer by hand, from a terminal.

    psr steer --model DIR --module DIR --alpha 1.2 "question"    the plain answer, then the steered one
    psr chat  --model DIR --module DIR                           plain against steered, alpha changed on the fly
    psr show  DIR                                                what a module is and where it came from
    psr distill --model DIR --instruction "…" --out DIR          a module from an instruction, with its strength
    psr export --model DIR --module DIR --questions F --out F    its constant part for llama.cpp, and what is lost
    psr serve --model DIR --modules DIR                          answers over HTTP, each request with its own modules
    psr ui    --model DIR --modules DIR                          a page: plain, prompted, steered, token by token
    psr push  DIR OWNER/NAME                                     the module and its card, to the Hugging Face hub

A model or a module is a folder, or a name on the hub with the commit that is meant.

What cannot be done is said in one line on stderr (exit 2); Ctrl-C ends with exit 130. Text that models and files bring
along is shown as text: no terminal codes, no markup.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from psr.cli_chat import DEFAULT_LENGTH, HELP, Talk, next_line, open_setup, shown, template_options
from psr.cli_text import clean, describe
from psr.errors import PsrError
from psr.types import Chat, Message

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

app = typer.Typer(
    name="psr",
    help="Steer a language model with a module instead of a prompt.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ModelDir = Annotated[
    Path, typer.Option("--model", help="A folder (safetensors), a GGUF file, or a name on the Hugging Face hub.")
]
Revision = Annotated[str | None, typer.Option("--revision", help="Of a model of the hub: the commit, 40 hex digits.")]
ModuleDir = Annotated[Path, typer.Option("--module", help="Folder of a steering module, or its name on the hub.")]
ModuleRevision = Annotated[
    str | None, typer.Option("--module-revision", help="Of a module of the hub: the commit, 40 hex digits.")
]
Alpha = Annotated[
    float | None,
    typer.Option("--alpha", help="Strength of steering; 0 is none. Default: the module's recommended one, or 1."),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the random numbers; all answers share them.")]
Length = Annotated[
    int | None, typer.Option("--max-new-tokens", help=f"Longest answer. Default: {DEFAULT_LENGTH}, or what fits.")
]
Heat = Annotated[float, typer.Option("--temperature", help="0: always the most likely token.")]
Dtype = Annotated[
    str, typer.Option("--dtype", help="float32, bfloat16, float16, or auto: what the machine is fast in.")
]
Template = Annotated[
    str, typer.Option("--template", help='Options of the chat template as JSON: {"enable_thinking": false}.')
]
Device = Annotated[
    str, typer.Option("--device", help="Where the model runs: as torch names it, auto, or balanced over all GPUs.")
]


def main() -> None:
    """The `psr` command. OpenMP's threads shall not spin for long while they wait: others may want the cores."""
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read when torch is loaded
    app()


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Errors that a user can mend end in one line on stderr, Ctrl-C in silence; neither shows a traceback."""
    try:
        yield
    except PsrError as error:
        typer.echo(f"psr: {clean(error)}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("", err=True)
        raise typer.Exit(130) from None


@app.command()
def steer(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    model: ModelDir,
    module: ModuleDir,
    alpha: Alpha = None,
    instruction: Annotated[str | None, typer.Option("--instruction", help="Answer with this prompt as well.")] = None,
    seed: Seed = 0,
    max_new_tokens: Length = None,
    temperature: Heat = 1.0,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    template: Template = "{}",
    revision: Revision = None,
    module_revision: ModuleRevision = None,
) -> None:
    """Print the plain answer, the prompted one if there is an instruction, then the steered one."""
    with _one_line_errors():
        setup = open_setup(
            model, revision, module, module_revision, alpha, dtype, device, max_new_tokens, temperature, template
        )
        turn = Message("user", question)
        rows: dict[str, tuple[Chat, float]] = {"plain": ((turn,), 0.0)}
        if instruction is not None:
            rows["instructed"] = (Message("system", instruction), turn), 0.0
        rows[f"steered by {setup.module.id}, alpha {setup.alpha:g}"] = (turn,), setup.alpha
        console = Console()
        for title, answer in zip(rows, setup.answer(list(rows.values()), seed), strict=True):
            console.print(Text(clean(title), style="bold"), soft_wrap=True)
            console.print(shown(answer), Text(), sep="\n", soft_wrap=True)


@app.command()
def chat(
    model: ModelDir,
    module: ModuleDir,
    alpha: Alpha = None,
    seed: Seed = 0,
    max_new_tokens: Length = None,
    temperature: Heat = 1.0,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    template: Template = "{}",
    revision: Revision = None,
    module_revision: ModuleRevision = None,
    remember: Annotated[bool, typer.Option("--remember", help="Each side goes on with its own conversation.")] = False,
) -> None:
    """Ask and ask again: plain and steered answers side by side."""
    with _one_line_errors():
        setup = open_setup(
            model, revision, module, module_revision, alpha, dtype, device, max_new_tokens, temperature, template
        )
        talk, console = Talk(setup.alpha, seed, remember), Console()
        console.print(Text(f"{clean(setup.module.id)}. {HELP}"))
        while (line := next_line(console, talk.alpha)) is not None:
            try:
                if not talk.command(line):
                    console.print(talk.ask(setup, line))
            except PsrError as error:
                console.print(Text(clean(error), style="red"), soft_wrap=True)


@app.command()
def distill(
    model: ModelDir,
    instruction: Annotated[str, typer.Option("--instruction", help="What the module is to do without being asked.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the module; made if it is missing.")],
    questions: Annotated[
        Path | None, typer.Option("--questions", help="File of questions, one a line. Default: 120 everyday ones.")
    ] = None,
    paraphrase: Annotated[
        list[str] | None, typer.Option("--paraphrase", help="Another wording of the instruction; may be repeated.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="How the module is fitted.")] = "a-psr-mse-qr",
    suppress: Annotated[bool, typer.Option("--suppress", help="Undo the instruction instead.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Go on where the model does not follow it.")] = False,
    license: Annotated[str, typer.Option("--license", help="Of the module, for its card: as the hub names it.")] = "",
    harmful: Annotated[
        bool, typer.Option("--harmful", help="The card warns of misuse; of some traits it always does.")
    ] = False,
    seed: Seed = 0,
    max_new_tokens: Annotated[int | None, typer.Option("--max-new-tokens", help="Longest answer. Default: 64.")] = None,
    temperature: Heat = 0.7,
    revision: Revision = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    template: Template = "{}",
) -> None:
    """Make a module that does what an instruction does, choose its strength, and say what it is worth."""
    with _one_line_errors():
        from psr.cli_distill import distill_into

        with Console(stderr=True).status("loading"):
            from psr.lm.loading import load_model

            lm = load_model(model, revision=revision, dtype=dtype, device=device, template=template_options(template))
        distill_into(out, lm, instruction, questions, max_new_tokens, temperature, paraphrases=paraphrase, method=method,
                     suppress=suppress, force=force, seed=seed, license=license, harmful=harmful or None)  # fmt: skip


@app.command()
def export(
    model: ModelDir,
    module: ModuleDir,
    questions: Annotated[Path, typer.Option("--questions", help="File of questions, one a line, to measure on.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    format: Annotated[str, typer.Option("--format", help="gguf: a control vector for llama.cpp.")] = "gguf",
    alpha: Alpha = None,
    max_new_tokens: Annotated[int | None, typer.Option("--max-new-tokens", help="Longest answer. Default: 64.")] = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    template: Template = "{}",
    revision: Revision = None,
    module_revision: ModuleRevision = None,
) -> None:
    """Write the constant part of a module for another program, and say how much of the module is lost."""
    with _one_line_errors():
        from psr.cli_export import check_format, export_into

        check_format(format)
        setup = open_setup(
            model, revision, module, module_revision, alpha, dtype, device, max_new_tokens, 0.0, template
        )
        export_into(out, setup.lm, setup.module, questions, setup.alpha, max_new_tokens)


@app.command()
def serve(
    model: ModelDir,
    modules: Annotated[
        Path | None, typer.Option("--modules", help="Folder of steering modules, each in a folder of its own.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What clients call the model. Default: its own name.")] = "",
    host: Annotated[
        str, typer.Option("--host", help="Another than this machine's own needs a key, in PSR_SERVE_KEY.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0: any that is free.")] = 8000,
    most: Annotated[int, typer.Option("--most", min=1, help="Requests that are answered at once.")] = 32,
    queue: Annotated[
        int, typer.Option("--queue", min=0, help="Requests that wait beside them; more are refused.")
    ] = 128,
    longest: Annotated[int, typer.Option("--longest", min=1, help="The most new tokens of an answer.")] = 2048,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    template: Template = "{}",
    revision: Revision = None,
) -> None:
    """Answer chats over HTTP as OpenAI's clients ask, each request steered by its own modules at its own strength."""
    with _one_line_errors():
        from psr.cli_serve import KEY
        from psr.cli_serve import serve as run

        def opened() -> LanguageModel:
            with Console(stderr=True).status("loading"):
                from psr.lm.loading import load_model

                return load_model(
                    model, revision=revision, dtype=dtype, device=device, template=template_options(template)
                )

        key = os.environ.get(KEY, "")
        run(opened, modules, name=name, host=host, port=port, key=key, most=most, queue=queue, longest=longest)


@app.command()
def ui(
    model: ModelDir,
    modules: Annotated[
        Path | None, typer.Option("--modules", help="Folder of steering modules, each in a folder of its own.")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="0: any that is free.")] = 7860,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    template: Template = "{}",
    revision: Revision = None,
) -> None:
    """Show a page on this machine: a question's plain, prompted and steered answers, and what acts at each token."""
    with _one_line_errors():
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
        from psr.cli_ui import show_page

        opening = {"revision": revision, "dtype": dtype, "device": device, "template": template_options(template)}
        usual: dict[str, object] = {"revision": None, "dtype": "float32", "device": "cpu", "template": {}}
        options = {name: value for name, value in opening.items() if value != usual[name]}

        def opened() -> LanguageModel:
            with Console(stderr=True).status("loading"):
                from psr.lm.loading import load_model

                return load_model(model, **opening)  # type: ignore[arg-type]

        show_page(opened, str(model), modules, port, options)


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="Folder of a steering module, or its name on the hub.")],
    revision: Annotated[
        str | None, typer.Option("--revision", help="Of a module of the hub: the commit, 40 hex digits.")
    ] = None,
) -> None:
    """Say what a module is: its form, where it acts, which model it fits, where it came from, its vectors' lengths."""
    with _one_line_errors():
        from psr.steering.module import load_module

        console = Console()
        for table in describe(load_module(folder, revision=revision)):
            console.print(table)


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="Folder of a steering module, with its card.")],
    name: Annotated[str, typer.Argument(help="Its name on the Hugging Face hub: owner/name.")],
    private: Annotated[bool, typer.Option("--private", help="Only you, or your organisation, can see it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and ask nobody.")] = False,
    without_results: Annotated[
        bool, typer.Option("--without-results", help="Even if the card has no figures of the module.")
    ] = False,
) -> None:
    """Send a module and its card to the Hugging Face hub, by the account that is logged in there (HF_TOKEN, hf auth login)."""
    with _one_line_errors():
        from psr.artefact.hub import plan_push, send

        planned = plan_push(folder, name, private=private, without_results=without_results)
        for file, size in planned.files.items():
            typer.echo(f"{file}  {size} bytes")
        if dry_run:
            typer.echo(f"to {planned.name}, {'private' if private else 'public'}; nothing was sent. The card:\n")
            typer.echo(clean(planned.card))
            return
        from huggingface_hub import get_token

        token = get_token()
        if token is None:
            raise PsrError("nobody is logged in to the hub", do="Run `hf auth login`, or set HF_TOKEN.")
        pushed = send(planned, token)
        typer.echo(f"{clean(pushed.url)}\npsr steer --module {pushed.name} --module-revision {pushed.commit}")


if __name__ == "__main__":
    main()
