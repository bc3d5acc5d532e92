"""Zero-shot accuracy with prototypes. The claim `protoclip` explains the runs."""

from dataclasses import replace

from tercet.benchmarks.claims import protoclip
from tercet.benchmarks.claims.experiment.strong import ZERO_SHOT

CLAIM = replace(
    protoclip.CLAIM,
    says="On a strong baseline, prototypes raise the zero-shot accuracy after as many samples.",
    measure=ZERO_SHOT,
)
