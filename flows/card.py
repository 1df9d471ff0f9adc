"""The command that makes an artefact of a fitted module: `python -m flows.card --attribute persona/pirate --method a-psr-mse-qr
--out my-pirate [--profile quick]`.

The folder gets the module, with the strength that the search chose in its config, and a README.md of what the profile's
tables say of it: figures with intervals and judge, side effects, faithfulness, data with counts and hashes, and how to make it
again. `psr steer`, `psr show` and `psr push` take it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flows import environment, params
from flows.doors import answered
from tasks.studies.bench.material import check_finished


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: written. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.card", description="A fitted module as a folder with its card."
    )
    add = parser.add_argument
    add("--profile", default=params.DEFAULT_PROFILE, help="whose outputs (default: %(default)s)")
    add("--attribute", required=True, metavar="NAME", help="what it steers for, such as persona/pirate")
    add("--method", required=True, metavar="NAME", help="how it was fitted, such as a-psr-mse-qr")
    add("--seed", type=int, help="of which repetition (default: the first)")
    add("--out", required=True, type=Path, metavar="DIR", help="the folder, which is made if it is missing")
    add("--license", default="", metavar="NAME", help="of the module, as the hub names it")
    add("--harmful", action="store_true", help="the card warns of misuse; of some traits it always does")
    add(
        "--base",
        metavar="OWNER/NAME",
        help="the model on the hub that the profile has a copy of; it is loaded and compared",
    )
    add("--base-revision", default="", metavar="COMMIT", help="of that model, 40 hex digits")
    args = parser.parse_args(argv)
    root = root or environment.repository()
    environment.set_defaults(root)
    return answered(lambda: _card(root, args), "Stopped. The folder may be without its card.")


def _card(root: Path, args: argparse.Namespace) -> None:
    from psr.artefact.card import write_card
    from psr.lm.loading import load_model
    from psr.steering.module import check_model, save_module
    from tasks.shown.card import NEEDED, carded, chosen_row

    profile, data = params.load(root, args.profile), root / "data" / args.profile
    check_finished(data, args.profile, NEEDED, "a card")
    module, facts = carded(root, args.profile, chosen_row(data, args.attribute, args.method, args.seed), args.seed)
    if args.base:
        template = dict(profile.model.template)
        lm = load_model(args.base, revision=args.base_revision, dtype="bfloat16", template=template)
        check_model(module, lm.fingerprint, lm.d_model, lm.n_layers)
        module = replace(module, base=lm.name)
    save_module(module, args.out)
    card = write_card(args.out, replace(facts, license=args.license, harmful=args.harmful or None))
    print(f"{card}\npsr push {args.out} OWNER/NAME")


if __name__ == "__main__":
    sys.exit(main())
