"""The paper step by step, the flow over all steps, and the commands.

Importing it checks that the pipeline can run: its packages are installed, and it is started in a checkout.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from psr.errors import PsrError

_NEEDS = (
    "prefect", "fastapi", "sqlalchemy", "dvc", "duckdb", "mlflow", "datasets", "pyarrow", "pydantic", "yaml", "psutil",
    "matplotlib", "packaging", "gguf", "accelerate", "if_verifiable", "langdetect", "nltk", "openai",
)  # fmt: skip


def _check(root: Path) -> None:
    """Raise PsrError unless the pipeline's packages are installed and `root` is a checkout, whole or damaged."""
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        raise PsrError(
            "packages of the pipeline are not installed",
            where="python -m flows",
            got=f"no {', '.join(missing)}",
            do="Run: pip install -e '.[pipeline]' -c constraints.txt",
        )
    if not any((root / name).exists() for name in ("dvc.yaml", "params.yaml", ".dvc")):
        raise PsrError(
            "the pipeline runs in a checkout of its repository",
            where=root,
            expected="dvc.yaml and params.yaml beside the folder flows",
            do="Clone the repository and run the command there.",
        )


if sys.argv[:1] == ["-m"]:  # python -m flows.…, while Python locates the module
    try:
        _check(Path(__file__).resolve().parents[1])
    except PsrError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
