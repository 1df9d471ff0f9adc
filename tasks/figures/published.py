"""The paper's own figures, which the report prints beside what was measured here.

Heyman & Vandeputte, "Steer Like the LLM", ICML 2026 (PMLR 306), arXiv:2605.03907. Keys are method slugs.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One of the paper's tables: what was measured on what, two column names, and (name, first, second) by method."""

    where: str
    columns: tuple[str, str]
    rows: dict[str, tuple[float | None, float | None]]
    others: tuple[tuple[str, float | None, float | None], ...] = ()


PERSONA = Published(
    "Qwen2.5-7B, persona vectors, mean of 5 traits",
    ("TA@Cp", "TA@C80"),
    {
        "prompt": (71.6, None),
        "s-const-dim-r": (34.8, 74.8),
        "s-const-mse-qr": (48.8, 71.6),
        "s-psr-mse-qr": (60.9, 83.3),
        "a-const-mse-qr": (83.6, 96.1),
        "a-psr-mse-qr": (83.9, 96.8),
    },
)
IFEVAL = Published(
    "Gemma-2-9b-it, IFEval format and language",
    ("accuracy", "coherence"),
    {"plain": (11.4, 96.6), "prompt": (85.7, 94.8), "s-psr-ll-r": (66.1, 95.5), "a-psr-ll-r": (71.9, 82.3)},
    (("Stolfo et al. 2025", 30.8, 96.1), ("S-PSR LL + prompt", 93.1, 94.6)),
)
AXBENCH = Published(
    "AxBench Concept500, layer 20, harmonic mean of three ratings",
    ("Gemma-2-2B", "Gemma-2-9B"),
    {"prompt": (0.731, 1.075), "s-psr-ll-r": (0.618, 0.667), "a-psr-mse-r": (0.871, 1.120)},
    (
        ("ReFT-r1", 0.509, 0.630),
        ("SV (RePS)", 0.606, 0.892),
        ("LoReFT (RePS)", 0.805, 0.757),
        ("HyperSteer", 0.742, 1.091),
    ),
)
PUBLISHED = {"persona": PERSONA, "ifeval": IFEVAL, "axbench": AXBENCH}
