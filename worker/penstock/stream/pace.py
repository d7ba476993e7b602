"""How long records will take, by how long the latest took: so that no batch outlasts a drain, whatever it runs on."""

from dataclasses import dataclass

from penstock.core.records import Record
from penstock.core.work import Work

EMBED = "embed"
"""The stage whose work goes by tokens."""

STANDING = 0.8
"""Share of the present figure that a better one leaves standing; a worse one is believed at once."""

LEAST_TOKENS_PER_BYTE = 0.1
"""However few of the latest documents had to be embedded, the next ones may all be new."""

MOST_RECORD_S = 1.0
"""What took longer waited for a service."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Measured on the batches that are done; at first a slow machine is assumed, and batches are small.

    ``token_s``: seconds per token of the model, ``tokens_per_byte`` of the records' values, ``record_s``: seconds that
    each record takes beside the model.
    """

    token_s: float = 0.002
    tokens_per_byte: float = 0.5
    record_s: float = 0.001

    def seconds(self, record: Record) -> float:
        """What this one may take, if all of it must be embedded."""
        return len(record.value or b"") * self.tokens_per_byte * self.token_s + self.record_s

    def after(self, work: Work) -> "Pace":
        """As measured, once this batch is done, too."""
        size = sum(len(record.value or b"") for record in work.batch.records)
        if not size or not work.stages:
            return self
        spent_s = {name: (stage.end_ns - stage.start_ns) / 1e9 for name, stage in work.stages.items()}
        model_s = spent_s.pop(EMBED, 0.0)
        record_s = max(spent_s.values(), default=0.0) / len(work.batch.records)
        return Pace(
            _eased(self.token_s, model_s / work.tokens) if work.tokens else self.token_s,
            max(LEAST_TOKENS_PER_BYTE, _eased(self.tokens_per_byte, work.tokens / size)),
            _eased(self.record_s, min(MOST_RECORD_S, record_s)),
        )


def _eased(before: float, now: float) -> float:
    return max(now, STANDING * before + (1 - STANDING) * now)
