"""How models are trained: the recipe of Qwen3-Embedding. Needs the extra ``train``; workers never import this.

tokenizer and first layer, for a new model -> pretrain -> negatives -> finetune -> merge -> rerank: the order is that of
``run.py``.
"""
