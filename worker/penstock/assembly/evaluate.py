"""``penstock evaluate``, put together: the models and the search of the settings, over all that is stored."""

from collections.abc import Sequence
from contextlib import ExitStack, closing

from penstock.adapters.qdrant.collection import find_collection
from penstock.assembly.models import load_models
from penstock.assembly.search import make_search, no_progress, reader
from penstock.core.errors import Misconfigured
from penstock.core.vectors import Vector
from penstock.evaluate.labelled import LabelledQuery
from penstock.evaluate.report import Options, Report, ServedModel, Steps, measure_search
from penstock.settings import Settings


def run_evaluation(settings: Settings, labelled: Sequence[LabelledQuery], options: Options, steps: Steps) -> Report:
    """Raises Misconfigured, or Unavailable; may take a while: see ``options.candidates`` and ``options.rerank``."""
    rerank = settings.rerank.model_copy(update={"enabled": settings.rerank.enabled and options.rerank})
    models = load_models(settings.model, rerank)
    with ExitStack() as opened:
        connection = opened.enter_context(closing(reader(settings.qdrant, settings.query)))
        search = opened.enter_context(closing(make_search(settings, models, connection, no_progress)))
        collection = find_collection(connection, settings.qdrant.collection, models.embedding.identity)
        chunks, rows = connection.store(collection).vectors(options.tenant)
        if not chunks:
            raise Misconfigured(f"no documents of tenant {options.tenant!r} to evaluate on")
        model = models.embedding.wide(rows.shape[1])

        def embed(texts: Sequence[str]) -> Vector:
            return model.embedder.embed(model.tokenizer.encode(texts, model.bundle.manifest.max_tokens))

        served = ServedModel(
            models.body.model_dump(), models.embedding.dimension, model.query_prompt, embed, model.bundle.supports
        )
        return measure_search(search, served, (chunks, rows), labelled, options, steps)
