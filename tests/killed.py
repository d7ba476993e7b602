"""An index worker whose model's native code crashes on a word: ``python -m tests.killed SETTINGS``, as JSON."""

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import closing

from penstock.adapters.qdrant.collection import open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.assembly.index import IndexWorker, open_topic
from penstock.core.identity import ModelIdentity
from penstock.core.vectors import Vector
from penstock.fakes import HashEmbedder, WordTokenizer, unchanging
from penstock.index.chunking import Chunker, ChunkRules
from penstock.observe.watch import Watch
from penstock.settings import IndexSettings, KafkaSettings, QdrantSettings

IDENTITY = ModelIdentity("model", "1", "mean", "", "", HashEmbedder().dimension)
WORD = "crash"


class Crashing(HashEmbedder):
    """No exception, no last word."""

    def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
        (crash,) = set(WordTokenizer().encode([WORD])[0]) - set(WordTokenizer().encode([""])[0])
        if any(crash in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().embed(texts)


def main(given: dict[str, dict[str, object]]) -> None:
    """Until the topic ends."""
    kafka = KafkaSettings.model_validate(given["kafka"])
    qdrant = QdrantSettings.model_validate(given["qdrant"])
    index = IndexSettings()
    chunker = Chunker(WordTokenizer(), ChunkRules(16, 4, title=True, prompt="", most=6))
    with closing(Connection(qdrant)) as connection:
        store = connection.store(open_collection(connection, qdrant.collection, IDENTITY))
        stream = open_topic(kafka, index, Watch(), once=True)
        IndexWorker(index, stream, unchanging, store, chunker, 1, Crashing()).run(threading.Event())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
