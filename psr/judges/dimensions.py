"""What each benchmark's judge rates, by the part it plays: what was asked for, and whether the answer makes sense.

persona vectors: trait and coherence; IFEval: strict and loose accuracy, coherence; AxBench: concept, instruction, fluency.
"""

from psr.errors import PsrError

ASKED = {"persona": "trait", "ifeval": "accuracy", "axbench": "concept"}
SENSE = {"persona": "coherence", "ifeval": "coherence", "axbench": "fluency"}
LOOSE = "accuracy_loose"
RATINGS = ("concept", "instruction", "fluency")


def asked_and_sense(attribute: str) -> tuple[str, str]:
    """(what is asked for, whether it makes sense) of an attribute's key. Raises PsrError for an unknown benchmark."""
    benchmark = attribute.partition("/")[0]
    if benchmark not in ASKED:
        raise PsrError("unknown benchmark", where=attribute, expected=f"one of {', '.join(ASKED)}", got=repr(benchmark))
    return ASKED[benchmark], SENSE[benchmark]
