"""Access to DVC's default remote: its address, the secrets that must not be printed or committed, and its errors as one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psr.errors import PsrError

EXTRAS = ("s3", "gs", "azure", "ssh")  # of pyproject.toml, named as the addresses begin
SECRETS = (  # options of a remote, as DVC names them
    "password", "token", "access_key_id", "secret_access_key", "session_token", "sse_customer_key", "connection_string",
    "account_key", "sas_token", "client_secret", "oss_key_id", "oss_key_secret", "gdrive_client_secret",
)  # fmt: skip
_PASSWORD = re.compile(r"(//[^/@:]*):[^/@]*@")  # in an address


def address_of(repo: Any) -> str:
    """The default remote's address, without a password. Raises PsrError where there is none, or git keeps its secrets."""
    name = repo.config["core"].get("remote")
    if not name:
        do = "Add one by `dvc remote add -d team ADDRESS` (docs/how-to/share.md)."
        raise PsrError("no remote is set for DVC", where=".dvc/config", do=do)
    for one, options in repo.config.load_one("repo").get("remote", {}).items():
        secrets = [key for key in SECRETS if options.get(key)]
        if secrets or _PASSWORD.search(options.get("url", "")):
            raise PsrError(
                "a secret stands in a file that git keeps",
                where=f".dvc/config, remote {one}: {', '.join(secrets) or 'the password in url'}",
                do="Take it out and set it by `dvc remote modify --local`, which writes .dvc/config.local; "
                "if it was committed, make it invalid where it came from.",
            )
    return _PASSWORD.sub(r"\1@", repo.config["remote"].get(name.lower(), {}).get("url", name))


@contextmanager
def answering(repo: Any, address: str) -> Iterator[None]:
    """Raise what a remote raises as PsrError, without secrets."""
    from dvc.exceptions import DvcException
    from dvc_objects.fs.errors import RemoteMissingDepsError

    try:
        yield
    except (PsrError, DvcException):
        raise
    except (ImportError, RemoteMissingDepsError):
        scheme = address.partition("://")[0]
        wanted = f"-e '.[{scheme}]' -c constraints.txt" if scheme in EXTRAS else f"dvc-{scheme}"
        raise PsrError(
            "the remote needs a package that is not here", where=address, do=f"`pip install {wanted}`"
        ) from None
    except Exception as error:  # whatever a file system raises
        message = f"{type(error).__name__}: {error}"
        for options in repo.config["remote"].values():
            for secret in (str(options[key]) for key in SECRETS if options.get(key)):
                message = message.replace(secret, "…")
        raise PsrError(
            "the remote failed",
            where=address,
            got=_PASSWORD.sub(r"\1@", message).rstrip("."),
            do="What has arrived stays: mend it and run again, which goes on from there.",
        ) from None
