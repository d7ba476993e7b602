"""What is no checkpoint of plain weights, told by what it is and what to do about it, from names and values alone."""

from collections.abc import Mapping
from pathlib import Path

from penstock.core.errors import Misconfigured

ADAPTER = "adapter_config.json"
MAGIC_OF_GGUF = b"GGUF"

GGUF = (
    "is GGUF, weights for llama.cpp and already quantized; export the original checkpoint with its safetensors, and "
    "--precision int8 for processors"
)
LORA = (
    "is a LoRA adapter, not a whole model; merge it into its base (peft: merge_and_unload, then save_pretrained with "
    "the tokenizer) and export that"
)
QUANTIZED = (
    "are already quantized ({method}); export the original checkpoint in bf16 or fp32, and --precision int8 for "
    "processors"
)
OF_ITS_OWN = (
    "auto_map names code of the checkpoint's own ({classes}), which is not run; without it the model may compute "
    "something else. If it is a plain model after all, remove auto_map from a copy, and export that"
)


def refuse_file(path: Path) -> None:
    """Raises Misconfigured for a path that is a file: a checkpoint is a folder."""
    if path.suffix == ".gguf" or _begins_as_gguf(path):
        raise Misconfigured(f"{path} {GGUF}")
    raise Misconfigured(f"{path} is a file; name the folder that holds it, with its config.json and tokenizer.json")


def refuse_folder(folder: Path) -> None:
    """Raises Misconfigured for an adapter, and for GGUF where no safetensors are beside it."""
    if (folder / ADAPTER).is_file():
        raise Misconfigured(f"{folder} {LORA}")
    if (files := sorted(folder.glob("*.gguf"))) and not any(folder.glob("*.safetensors")):
        raise Misconfigured(f"{files[0]} {GGUF}")


def refuse_config(path: Path, config: Mapping[str, object]) -> None:
    """Raises Misconfigured for a ``config.json`` of quantized weights (AWQ, GPTQ, fp8, …), or with code of its own."""
    for key, usual in (("quantization_config", "unknown method"), ("quantization", "MLX"), ("compression_config", "")):
        if (given := config.get(key)) is not None:
            method = given.get("quant_method", usual) if isinstance(given, Mapping) else usual
            raise Misconfigured(f"{path}: the weights {QUANTIZED.format(method=method or key)}")
    if code := config.get("auto_map"):
        classes = sorted({str(name) for name in code.values()}) if isinstance(code, Mapping) else [str(code)]
        raise Misconfigured(f"{path}: {OF_ITS_OWN.format(classes=', '.join(classes))}")


def _begins_as_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC_OF_GGUF)) == MAGIC_OF_GGUF
