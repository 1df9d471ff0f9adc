"""To the Hugging Face hub: the module's two files and its card, as one commit, and nothing else that lies in the folder.

What must not become public by accident is refused before anything is sent: a card without figures or of other weights, a module
whose base model is private or cannot be looked up, a repository that holds something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from psr.artefact.card import CARD, DIGEST, weights_digest, write_card
from psr.errors import PsrError
from psr.lm.hub import asked, check_id, said, silent
from psr.steering.module import CONFIG, WEIGHTS, load_module

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from psr.steering.module import SteeringModule

FILES = (CONFIG, WEIGHTS, CARD)
BESIDE = ".gitattributes"  # what the hub itself adds to a repository
PATIENCE = 10.0  # seconds for a question to the hub
CARDS = "`psr distill --out` writes one with its figures, and so does `python -m flows.card`."


class Pushed(NamedTuple):
    """Where a module lies on the hub: psr.load_module(name, revision=commit)."""

    name: str
    commit: str
    url: str


@dataclass(frozen=True)
class Push:
    """What would be sent, checked as far as this machine can tell. card: its text."""

    name: str
    folder: Path
    private: bool
    module: SteeringModule
    card: str

    @property
    def files(self) -> dict[str, int]:
        """Their sizes in bytes, by name."""
        return {name: (self.folder / name).stat().st_size for name in FILES}


def plan_push(folder: Path | str, name: str, *, private: bool = False, without_results: bool = False) -> Push:
    """Check what is to be sent, and ask nobody. A module without a card gets one that says so, where it may go without results.

    Raises PsrError: no module; a name that is none; a card that is missing, of other weights or without figures; a public push
    of a module whose base model has no name on the hub.
    """
    folder = Path(folder)
    check_id(name)
    if "/" not in name:
        raise PsrError("not a name on the hub", where=name, expected="owner/name, such as someone/pirate")
    module = load_module(folder)
    if not (folder / CARD).is_file():
        if not without_results:
            raise PsrError(
                "the module has no card", where=folder, expected=CARD, do=f"{CARDS} --without-results goes without."
            )
        write_card(folder)
    _check_card(folder, without_results)
    if not private and not module.base.revision:
        raise PsrError(
            "the base model of this module has no name on the hub, so nobody can say whether it is private",
            where=folder,
            expected="a model of the hub with its commit",
            got=repr(module.base.name) if module.base.name else "no name",
            do="Fit it on the model by its name on the hub, or push with --private.",
        )
    return Push(name, folder, private, module, (folder / CARD).read_text(encoding="utf-8"))


def _check_card(folder: Path, without_results: bool) -> None:
    """Refuse a card that is of other weights, or of none of the module's figures."""
    about = metadata(folder / CARD)
    digest = weights_digest(folder)
    if about.get(DIGEST) != digest:
        raise PsrError(
            "the card is of other weights than the module's",
            where=folder / CARD,
            expected=f"{DIGEST} {digest}",
            got=about.get(DIGEST) or "none",
            do=f"Write it again. {CARDS}",
        )
    if not about.get("model-index") and not without_results:
        raise PsrError(
            "a card without results", where=folder / CARD, expected="figures of the module", got="none",
            do=f"{CARDS} --without-results goes without.",
        )  # fmt: skip


def metadata(card: Path) -> dict[str, Any]:
    """What the head of a card says. Raises PsrError where it cannot be read."""
    from huggingface_hub import metadata_load

    try:
        return metadata_load(card) or {}
    except Exception as error:  # yaml has a family of its own
        raise PsrError("the head of the card cannot be read", where=card, expected="YAML between two lines ---",
                       got=said(error)) from error  # fmt: skip


def push_module(
    folder: Path | str,
    name: str,
    *,
    token: str,
    private: bool = False,
    without_results: bool = False,
    endpoint: str | None = None,
) -> Pushed:
    """Send the module in `folder` with its card to the hub, as one commit of the repository `name`, which is made if missing.

    token: of an account that may write there. private: the repository is made private; one that is there must be so already.
    endpoint: of the hub; None: as huggingface_hub has it. A public push first asks, without the token, whether everybody can see the
    base model. Raises PsrError as `plan_push` does, and: the base model is private or cannot be looked up; the repository is
    public where it should be private, or holds other files; the hub cannot be reached, or refuses.

    Example:
        pushed = psr.push_module("my-pirate", "someone/my-pirate", token=token)
        psr.load_module(pushed.name, revision=pushed.commit)
    """
    return send(plan_push(folder, name, private=private, without_results=without_results), token, endpoint)


def send(push: Push, token: str, endpoint: str | None = None) -> Pushed:
    """Send what was planned. Raises PsrError as `push_module` says."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=endpoint, token=token)
    if not push.private:
        _check_base(push.module, HfApi(endpoint=endpoint, token=False))
    _check_repository(push, api)
    files = [CommitOperationAdd(name, push.folder / name) for name in FILES]
    with _refusals(push.name), silent():
        api.create_repo(push.name, private=push.private, exist_ok=True)
        commit = api.create_commit(push.name, files, commit_message=f"Steering module {push.module.id}")
    return Pushed(push.name, commit.oid, commit.commit_url)


def _check_base(module: SteeringModule, anonymous: HfApi) -> None:
    """Refuse a module whose base model not everybody can see."""
    from huggingface_hub.errors import HfHubHTTPError

    base = module.base
    do = "Push with --private, or make the base model public first."
    try:
        info = asked(lambda: anonymous.model_info(base.name, revision=base.revision, timeout=PATIENCE))
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise PsrError(
                "the base model of this module is private, or is not on the hub", where=base, got=said(error), do=do
            ) from error
        raise _unreachable(str(base), error) from error
    except Exception as error:  # of the network
        raise _unreachable(str(base), error) from error
    if info.private:
        raise PsrError("the base model of this module is private", where=base, do=do)


def _check_repository(push: Push, api: HfApi) -> None:
    """Refuse a repository that others can see where they should not, or that holds something else than a module."""
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        info = asked(lambda: api.model_info(push.name, timeout=PATIENCE))
    except RepositoryNotFoundError:  # it will be made
        return
    except HfHubHTTPError as error:
        raise _refused(push.name, error) from error
    except Exception as error:
        raise _unreachable(push.name, error) from error
    if push.private and not info.private:
        raise PsrError("this repository is public", where=push.name, expected="a private one, or a new name", got="a public one",
                       do="Make it private on the hub, or take another name.")  # fmt: skip
    others = sorted({file.rfilename for file in info.siblings or ()} - {*FILES, BESIDE})
    if others:
        raise PsrError("this repository holds something else", where=push.name, expected=f"{', '.join(FILES)} or nothing",
                       got=", ".join(others[:3]), do="Take another name.")  # fmt: skip


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Whatever the hub or its library raises, in one line."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except (HfHubHTTPError, ValueError) as error:
        raise _refused(name, error) from error
    except PsrError:
        raise
    except Exception as error:  # of the network
        raise PsrError(
            "the hub broke off", where=name, got=said(error), do="Push again: it is one commit or none."
        ) from error


def _refused(name: str, error: Exception) -> PsrError:
    return PsrError("the hub does not take this module", where=name, got=said(error),
                    do="Correct the name, or log in with a token that may write there.")  # fmt: skip


def _unreachable(name: str, error: Exception) -> PsrError:
    return PsrError("the hub cannot be asked", where=name, got=said(error),
                    do="Try again with a network, and without HF_HUB_OFFLINE. Nothing was sent.")  # fmt: skip
