"""A byte-level BPE tokenizer of the kind that Qwen3 has, learnt from the training texts."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from penstock.models import prompts

END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
OTHERS = ("<think>", "</think>")
WORDS = Regex(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""What is merged within: Qwen's tokenizer.json."""
ANSWERS = ("yes", "no")
TEMPLATES = 1000
"""How often the templates are among the texts: their words are in every query and every pair."""


def learn(texts: Iterable[str], size: int, instructions: Iterable[str]) -> Tokenizer:
    """A vocabulary of ``size`` tokens, added ones included."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(WORDS, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    room = size - 3 - len(OTHERS)
    trainer = trainers.BpeTrainer(vocab_size=room, initial_alphabet=alphabet, special_tokens=[], show_progress=False)
    made.train_from_iterator(_with_templates(texts, instructions), trainer)
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (END, START, STOP)])
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in OTHERS])
    return made


def save(learnt: Tokenizer, folder: Path, *, ends: bool) -> None:
    """Write tokenizer.json and its description; ``ends`` puts the end-of-text token after every text."""
    learnt.post_processor = _ending(learnt) if ends else processors.ByteLevel(trim_offsets=False)
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415  # slow to load

    folder.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(
        tokenizer_object=learnt, eos_token=END, pad_token=END, padding_side="right", clean_up_tokenization_spaces=False
    ).save_pretrained(folder)


def _ending(learnt: Tokenizer) -> processors.PostProcessor:
    last = [(END, learnt.token_to_id(END))]
    template = processors.TemplateProcessing(single=f"$A {END}", special_tokens=last)
    return processors.Sequence([processors.ByteLevel(trim_offsets=False), template])


def _with_templates(texts: Iterable[str], instructions: Iterable[str]) -> Iterable[str]:
    for instruction in instructions:
        for template in (prompts.PREFIX, prompts.PAIR, prompts.SUFFIX, prompts.QUERY):
            filled = prompts.fill(template, {"instruction": instruction, "separator": "\n\n"})
            for token in (END, START, STOP, *OTHERS):
                filled = filled.replace(token, " ")
            yield from [filled, *ANSWERS] * TEMPLATES
    yield from texts
