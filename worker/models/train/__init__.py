"""How models are trained: the recipe of Qwen3-Embedding. Needs the extra ``train``; workers never import this.

tokenizer (for a new model) -> pretrain -> negatives -> finetune -> merge -> rerank; ``run.py`` is the order.
"""
