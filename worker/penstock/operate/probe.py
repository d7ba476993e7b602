"""``penstock probe``: one document goes through the whole stream, is found by a query, and is deleted again."""

import json
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from penstock.adapters.kafka.connection import connect_producer
from penstock.adapters.kafka.replies import KafkaReplies
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.filters import Filter
from penstock.core.records import Headers, Message
from penstock.query.http.client import QueryClient
from penstock.query.requests import QueryBody
from penstock.settings import IndexSettings, KafkaSettings

TENANT = "penstock-probe"
LOOK_S, ANSWER_S, CLOSE_S = 0.2, 10.0, 5.0


@dataclass(frozen=True, slots=True)
class Probe:
    """A document of its own, as producers with these settings send it."""

    settings: IndexSettings
    id: str

    @property
    def tenant(self) -> str:
        """Whose it is; empty where there are no tenants."""
        return {"none": "", "fixed": self.settings.tenant}.get(self.settings.tenant_from, TENANT)

    @property
    def text(self) -> str:
        """What it says and is asked for by."""
        return f"This is probe {self.id} on its way through the stream."

    def message(self, topic: str, version: int, op: str) -> Message:
        """Its event."""
        event = {"id": self.id, "op": op, "version": version}
        if op == "upsert":
            event["text"] = self.text
        headers: Headers = ()
        if self.settings.tenant_from == "header":
            headers = ((self.settings.tenant_header, self.tenant.encode()),)
        key = f"{self.tenant}/{self.id}" if self.settings.tenant_from == "key" else self.id
        return Message(topic, key.encode(), json.dumps(event).encode(), headers)

    @property
    def query(self) -> QueryBody:
        """What finds it, whatever the model is worth."""
        only = Filter(field="document", equals=self.id)
        return QueryBody(query=self.text, tenant=self.tenant or None, rerank=False, filter=only)


def probe(
    kafka: KafkaSettings,
    index: IndexSettings,
    worker: QueryClient,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[str, float]:
    """Id of the document and seconds until it was found; raises Misconfigured when it was not."""
    if len(kafka.topics) != 1:
        raise Misconfigured("PENSTOCK_KAFKA__TOPIC names several topics: for a probe, name one that is read as it is")
    index = index.of_topic(kafka.topic)
    if index.mapping is not None:
        raise Misconfigured(
            "PENSTOCK_INDEX__MAPPING reads fields that a probe does not have: produce an event of your own"
        )
    document = Probe(index, f"penstock-probe-{uuid.uuid4().hex[:12]}")
    with ExitStack() as opened:
        sender = KafkaReplies(connect_producer(kafka))
        opened.callback(sender.close, CLOSE_S)
        started = clock()
        sender.put([document.message(kafka.topic, 1, "upsert")])
        try:
            why = "is not in the answers"
            while (took_s := clock() - started) < timeout_s:
                try:
                    reply = worker.ask(document.query, ANSWER_S)
                except Unavailable as error:
                    why = str(error)
                else:
                    if any(hit.document == document.id for hit in reply.hits):
                        return document.id, clock() - started
                time.sleep(LOOK_S)
            raise Misconfigured(f"document {document.id} went to topic {kafka.topic} and {why} after {took_s:.0f} s")
        finally:
            sender.put([document.message(kafka.topic, 2, "delete")])
