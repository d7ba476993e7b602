"""Apache Kafka. The only importer of kafka-python, pinned to 3.0.12: see ``source.py`` for what it asks for."""
