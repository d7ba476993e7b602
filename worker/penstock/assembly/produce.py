"""``penstock produce``: a file's events onto a topic."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

from penstock.adapters.files import portions
from penstock.adapters.kafka.sender import KafkaSender
from penstock.assembly.index import rules_for
from penstock.core.documents import EPOCH_SHIFT
from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.core.records import Compression, Message
from penstock.events.keyed import keyed, reading
from penstock.settings import Settings


@dataclass(frozen=True, slots=True)
class Sending:
    """What is to be sent where. ``left_out`` hears of lines that cannot be read; None: the first one ends it."""

    settings: Settings
    file: str
    topic: str
    tenant: str
    left_out: Callable[[str], None] | None

    def run(self, compression: Compression | None, advance: Callable[[int], None]) -> int:
        """How many events were sent, or with no ``compression`` would be.

        Raises Misconfigured for a line that cannot be read, when all before it are sent; Misconfigured or Unavailable.
        """
        sent = 0
        with ExitStack() as opened:
            sender = None
            if compression is not None:
                sender = opened.enter_context(closing(KafkaSender(self.settings.kafka, self.topic, compression)))
            for messages, wrong in self._read():
                if sender is not None:
                    sender.send(messages)
                sent += len(messages)
                advance(len(messages))
                if wrong:
                    said = "would be" if sender is None else "are"
                    raise Misconfigured(f"{wrong}; {sent} events before it {said} sent: correct it, or --skip-invalid")
        return sent

    def _read(self) -> Iterator[tuple[list[Message], str]]:
        """Batch by batch, each with what is wrong with the line behind it."""
        index = self.settings.index
        index = index.of_topic(self.topic)
        rules = reading(rules_for(index, index.epoch << EPOCH_SHIFT, keyed=False), self.tenant)
        for records in portions(self.file):
            messages: list[Message] = []
            for record in records:
                try:
                    messages.append(keyed(record, self.topic, rules, index.tenant_from))
                except InvalidEvent as error:
                    wrong = f"line {record.offset + 1} of {self.file}: {error}"
                    if self.left_out is None:
                        yield messages, wrong
                        return
                    self.left_out(wrong)
            yield messages, ""
