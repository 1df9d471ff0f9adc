"""NLTK's English sentence splitter (`punkt_tab`), which two of IFEval's checkers need. It is not shipped: fetched when asked.

    python -m psr.judges.punkt        into NLTK's own data folder, about 4 MB

The archive and each of its files are known by their sha256, so that the same answer has as many sentences everywhere.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from urllib.request import urlopen

from psr.errors import PsrError

URL = (
    "https://raw.githubusercontent.com/nltk/nltk_data/4f15a3d89eefe9748ec1c05be495d91289197155"
    "/packages/tokenizers/punkt_tab.zip"
)
SHA256 = "e57f64187974277726a3417ca6f181ec5403676c717672eef6a748a7b20e0106"
FOLDER = "tokenizers/punkt_tab/english"
FILES = {
    "abbrev_types.txt": "92a3e070f43d9b4c5534758ca40ad7343b04e7e29bfe0c2eb658a39445a4f779",
    "collocations.tab": "8e2da1225e4dd2cc9dba261ee231ccb134859e21b46006e7f472c5ee269af0cf",
    "ortho_context.tab": "4bbcca25ed3d3f06c02402abf8419b9f033b8adc06e7b482eca4e45f81a5dc4c",
    "sent_starters.txt": "f3f8535483e1dba487241b764945168123bca3209a9645e59acd1225dc76edac",
}
DO = "python -m psr.judges.punkt"


def lacking() -> str:
    """Why the splitter cannot be used: it is not in NLTK's data folders, or it is another one. Empty where it can."""
    import nltk

    try:
        folder = nltk.data.find(f"{FOLDER}/")
        read = {name: folder.join(name).open().read() for name in FILES}
    except (LookupError, OSError):
        return f"it needs nltk's English punkt_tab, which is fetched by: {DO}"
    other = [name for name, data in read.items() if _sha256(data) != FILES[name]]
    return (
        f"nltk's punkt_tab is another version ({', '.join(other)}); the known one is fetched by: {DO}" if other else ""
    )


def fetch(folder: Path | str | None = None, url: str = URL) -> Path:
    """Download the archive, check it, and put the English files into `folder` (NLTK's own without one); returns their folder.

    Raises PsrError: no network, another archive.
    """
    from nltk.downloader import Downloader

    try:
        with urlopen(url, timeout=60) as answer:  # noqa: S310 - a fixed address, or the caller's own
            archive = answer.read()
    except OSError as error:
        raise PsrError(
            "nltk's punkt_tab cannot be fetched",
            where=url,
            got=f"{type(error).__name__}: {error}",
            do=f"Try again with network, or unpack the archive into {FOLDER} below one of nltk's data folders.",
        ) from error
    if (got := _sha256(archive)) != SHA256:
        raise PsrError("nltk's punkt_tab is another file", where=url, expected=f"sha256 {SHA256}", got=got)
    target = Path(folder or Downloader().default_download_dir()) / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        for name in FILES:
            (target / name).write_bytes(files.read(f"punkt_tab/english/{name}"))
    return target


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    try:
        print(fetch())
    except PsrError as error:
        raise SystemExit(str(error)) from None
