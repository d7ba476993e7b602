"""A document event as its producer sends it: with the key and the headers that a worker will look at. Pure."""

from dataclasses import replace

from penstock.core.records import Headers, Message, Record
from penstock.events.document import DocumentRules, decode


def keyed(record: Record, topic: str, rules: DocumentRules, tenant: str = "") -> Message:
    """The message for that topic, of a document of ``tenant`` where keys or headers tell it.

    Raises InvalidEvent for a value that would be a dead letter there.
    """
    told = rules.tenant_from in ("key", "header")
    event = decode(record, replace(rules, tenant_from="fixed", tenant=tenant) if told else rules)
    key = f"{tenant}/{event.key.document}" if rules.tenant_from == "key" else event.key.document
    headers: Headers = ((rules.tenant_header, tenant.encode()),) if rules.tenant_from == "header" else ()
    return Message(topic, key.encode(), record.value or b"", headers)
