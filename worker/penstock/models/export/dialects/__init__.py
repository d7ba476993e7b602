"""The operators of a Qwen3 decoder, as each runtime computes them fastest.

Padding is on the right, and attention is causal, so what follows a text's last token cannot change it, and no mask is
needed.
"""

from penstock.models.export.dialects.cpu import Cpu
from penstock.models.export.dialects.cuda import Cuda
from penstock.models.export.dialects.standard import Standard

DIALECTS: dict[str, type[Standard]] = {dialect.name: dialect for dialect in (Cuda, Cpu, Standard)}
