"""The models, what they run on, and where they are fetched from."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from penstock.settings.group import Count, Group, PathAtHome, Seconds

PROVIDER = "(tensorrt|cuda|cpu)"

SHIPPED = "shipped"
"""The name of the small models that come with the package; a folder of that name is given by another path."""

SHIPPED_MODELS = Path(__file__).parent.parent / "data" / "models"


class RuntimeSettings(Group):
    """How a model runs."""

    shipped: ClassVar[str] = ""
    """The folder of the shipped model of this kind."""

    bundle: PathAtHome | None = None
    """Folder of a model bundle, made by penstock export; shipped: the small one that comes with the package."""
    provider: str = Field(default="cuda,cpu", pattern=f"^{PROVIDER}(,{PROVIDER})*$")
    """Execution providers of ONNX Runtime to try, in this order: tensorrt, cuda, cpu."""
    require_provider: Literal["", "tensorrt", "cuda", "cpu"] = ""
    """Refuse to start on any other provider than this."""
    token_budget: Count | None = None
    """Padded tokens in one forward pass. Empty: what penstock bench --tune stored, else 256 on CPU, 16384 on a GPU."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads of the model on CPU; 0 means one per core."""
    passes: Annotated[int, Field(ge=0)] = 0
    """Forward passes at once on CPU, sharing the threads: 0, one per thread, for throughput; 1 for a text's latency."""
    spinning: bool = False
    """Let threads on CPU wait actively: less time for a single short text, on cores that nobody else needs."""
    gpu_memory_mb: Annotated[int, Field(ge=0)] = 0
    """Most GPU memory that ONNX Runtime may reserve; 0 means no limit."""
    engine_cache: PathAtHome | None = None
    """Folder for TensorRT's engines, which take minutes to build."""
    engine_lengths: str = Field(default="128,512,2048", pattern=r"^[1-9]\d*(,[1-9]\d*)*$")
    """TensorRT's engines, one up to each length; each holds the weights once more. Other shapes go through CUDA."""

    @field_validator("bundle", mode="before")
    @classmethod
    def _by_name(cls, given: object) -> object:
        return SHIPPED_MODELS / cls.shipped if str(given) == SHIPPED else given


class ModelSettings(RuntimeSettings):
    """The embedding model."""

    shipped = "embedding"
    dimension: Count | None = None
    """Length of the vectors; empty means the model's own. Shorter ones must be supported by the model."""
    full_dimension: Count | None = None
    """Store longer vectors, too: searches find candidates by the short ones and score them by these. Empty: do not."""
    instruction: str = ""
    """The task that queries are embedded and reranked with; empty means the bundle's own."""


class MigrationSettings(Group):
    """The model of a migration (penstock migrate), which query workers hold beside the present one."""

    bundle: PathAtHome | None = None
    """Folder of the bundle to go to. Query workers answer by whichever of the two models has made the collection that
    the alias points to at the moment; empty where there is no migration."""
    dimension: Count | None = None
    """Length of its vectors; empty means the model's own."""
    full_dimension: Count | None = None
    """As model.full_dimension, of that model."""
    instruction: str = ""
    """As model.instruction, of that model."""
    group: str = ""
    """The consumer group of the workers that fill its collection. Empty: kafka.group with what that collection's name
    has of its own, which penstock migrate tells."""

    @field_validator("bundle", mode="before")
    @classmethod
    def _by_name(cls, given: object) -> object:
        return SHIPPED_MODELS / ModelSettings.shipped if str(given) == SHIPPED else given

    def of(self, model: ModelSettings) -> ModelSettings:
        """That model, run as the present one is."""
        return model.model_copy(update={name: value for name, value in dict(self).items() if name != "group"})


class RerankSettings(RuntimeSettings):
    """The reranking model of query workers."""

    shipped = "reranker"
    enabled: bool = True
    """Let a second model order what the search finds; false serves the order of the search."""
    weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How much the reranker says in the order of an answer, the search says the rest; 1: the reranker alone."""
    max_tokens: Annotated[int, Field(ge=128)] = 4096
    """Most tokens of a query with a document in the reranker's template; longer documents are cut at their end."""


class FetchSettings(Group):
    """How penstock fetch reaches registries and stores; clouds and hubs read variables of their own, too."""

    username: str = ""
    """User name for a registry."""
    password: SecretStr = SecretStr("")
    """Password or token for a registry."""
    docker_config: PathAtHome | None = None
    """A file with logins by registry, as docker login and oras login write it, and kubectl create secret
    docker-registry; where there is a username, that is used."""
    ca_file: PathAtHome | None = None
    """PEM file of authorities to trust, beside the system's, in registries and object stores."""
    timeout_s: Seconds = 60.0
    """Longest wait for the next bytes."""
    allow_insecure: bool = False
    """Permit http to other machines, where anyone on the way reads passwords."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.username) != bool(self.password.get_secret_value()):
            raise ValueError("username and password go together")
        return self
