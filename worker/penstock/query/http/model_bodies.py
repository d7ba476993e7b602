"""What requests to the models by themselves hold, see ``schemas/http.v1``."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from penstock.core.errors import InvalidEvent
from penstock.core.operands import not_endless
from penstock.events.validation import few_fields

Count = Annotated[StrictInt, Field(ge=1)]
InputType = Literal["document", "query"]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _told(cls, value: Any) -> Any:
        """Without what is null: clients send so what they leave to the server."""
        few = few_fields(value)
        return {name: part for name, part in few.items() if part is not None} if isinstance(few, dict) else few


def _texts(value: Any) -> Any:
    """The value; raises ValueError for token ids, which are another tokenizer's."""
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, int | list) and not isinstance(first, bool):
        raise ValueError(  # noqa: TRY004  # which pydantic tells
            "token ids mean something to the model's own tokenizer only: send texts "
            "(in LangChain: check_embedding_ctx_length=False)"
        )
    return value


Texts = Annotated[
    StrictStr | Annotated[tuple[StrictStr, ...], Field(min_length=1)],
    BeforeValidator(_texts), BeforeValidator(not_endless),
]  # fmt: skip
"""One, or several."""


def listed(texts: str | tuple[str, ...]) -> list[str]:
    """Several, in any case."""
    return [texts] if isinstance(texts, str) else list(texts)


class EmbeddingsBody(_Body):
    """Texts to embed. Beside OpenAI's fields: ``input_type`` query puts the ``instruction`` before each text."""

    input: Texts
    model: StrictStr | None = None
    dimensions: Count | None = None
    encoding_format: Literal["float", "base64"] = "float"
    input_type: InputType = "document"
    instruction: StrictStr | None = None


class EmbedBody(_Body):
    """Texts to embed, as in the API of text-embeddings-inference."""

    inputs: Texts
    dimensions: Count | None = None
    normalize: StrictBool = True
    prompt_name: InputType = "document"

    @model_validator(mode="after")
    def _normal(self) -> Self:
        if not self.normalize:
            raise ValueError("normalize: vectors have length 1 here")
        return self


class RerankBody(_Body):
    """Documents to be judged. Beside Cohere's fields: ``instruction``, the task; and ``texts`` instead of documents.

    Of a document that is an object title and text are judged, or the ``rank_fields`` in their order.
    """

    query: Annotated[StrictStr, Field(min_length=1)]
    documents: Annotated[
        tuple[StrictStr | dict[str, JsonValue], ...], Field(min_length=1), BeforeValidator(not_endless)
    ] = ()
    rank_fields: tuple[StrictStr, ...] = ()
    model: StrictStr | None = None
    top_n: Count | None = None
    return_documents: StrictBool = False
    instruction: StrictStr | None = None
    texts: Annotated[tuple[StrictStr, ...], Field(min_length=1), BeforeValidator(not_endless)] = ()
    raw_scores: StrictBool = False
    return_text: StrictBool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.documents) == bool(self.texts):
            raise ValueError("documents, texts: not both" if self.texts else "documents: needed, or texts")
        return self

    @property
    def judged(self) -> list[str]:
        """What is judged, however it was given."""
        return list(self.texts) or [
            document if isinstance(document, str) else self._judged(number, document)
            for number, document in enumerate(self.documents)
        ]

    def _judged(self, number: int, document: Mapping[str, JsonValue]) -> str:
        named = self.rank_fields or ("text",)
        title = () if self.rank_fields or not isinstance(document.get("title"), str) else ("title",)
        parts = [document[name] for name in (*title, *named) if document.get(name) not in (None, "")]
        if not parts or not all(isinstance(part, str) for part in parts):
            raise InvalidEvent(f"documents.{number}: has no {' or '.join(named)} that is a text")
        return "\n".join(map(str, parts))
