"""A document event as its producer sends it: with the key and the headers that a worker will look at. Pure."""

from dataclasses import replace

from penstock.core.records import Headers, Message, Record
from penstock.events.document import decode
from penstock.events.keys import TenantFrom, written_key
from penstock.events.rules import DocumentRules


def reading(rules: DocumentRules, tenant: str) -> DocumentRules:
    """As an event is read whose key and headers are still to be made: of ``tenant``, where these would tell it."""
    told = rules.tenant_from in ("key", "header")
    return replace(rules, tenant_from="fixed", tenant=tenant) if told else rules


def keyed(record: Record, topic: str, rules: DocumentRules, tenant_from: TenantFrom) -> Message:
    """The message for that topic, read by ``reading``'s rules, its tenant where workers will look for it.

    Raises InvalidEvent for a value that would be a dead letter there.
    """
    key = decode(record, rules).key
    document = key.document if rules.mapping is None else rules.mapping.key_of(key.document)
    name = written_key(f"{key.tenant}/{document}" if tenant_from == "key" else document, rules.key_format)
    headers: Headers = ((rules.tenant_header, key.tenant.encode()),) if tenant_from == "header" else ()
    return Message(topic, name, record.value or b"", headers)
