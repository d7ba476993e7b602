"""Whose a record is, whatever else is wrong with it."""

from dataclasses import replace

from penstock.core.errors import InvalidEvent
from penstock.core.letters import TOPIC
from penstock.core.records import Record
from penstock.events.document import decode
from penstock.events.foreign import key_name, key_tenant
from penstock.events.keys import header_tenant, split_key
from penstock.events.rules import DocumentRules
from penstock.events.validation import untrusted


def tenant_of(record: Record, rules: DocumentRules) -> str | None:
    """The tenant of a record or of a dead letter, by the rules of its topic; None where nobody can tell.

    Raises Unavailable where a registry is needed for it, and is away.
    """
    record = _delivered(record)
    try:
        return _tenant(record, rules.of(record.partition.topic))
    except InvalidEvent:
        return None


def deletes(record: Record, rules: DocumentRules) -> str:
    """Why a null value in place of the record's would not delete its document; empty where it would."""
    try:
        decode(replace(record, value=None), rules)
    except InvalidEvent as error:
        return str(error)
    return ""


def _delivered(record: Record) -> Record:
    """A dead letter as it came first, as far as its rules are concerned."""
    told = [value for name, value in record.headers if name == TOPIC and value]
    if not told:
        return record
    return replace(record, partition=record.partition._replace(topic=told[-1].decode("utf-8", "replace")))


@untrusted
def _tenant(record: Record, rules: DocumentRules) -> str | None:
    match rules.tenant_from:
        case "none":
            return ""
        case "fixed":
            return rules.tenant
        case "header":
            return header_tenant(record, rules.tenant_header)
        case "key":
            name = key_name(record, rules)
            return None if name is None else split_key(name)[0]
        case "field":
            return key_tenant(record, rules) if record.value is None else decode(record, rules).key.tenant
