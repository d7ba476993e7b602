"""A schema registry that speaks Confluent's API. The only importer of its client, and of what reads its formats."""
