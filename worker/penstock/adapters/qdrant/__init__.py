"""Qdrant. The only importer of qdrant-client; everything goes through its gRPC messages, embedded or remote."""
