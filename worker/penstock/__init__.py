"""Penstock: a stream of documents from Kafka, through embedding models, into Qdrant."""

__version__ = "0.1.0"
