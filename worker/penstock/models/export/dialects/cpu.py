"""The ``cpu`` dialect: what the kernels of ONNX Runtime's CPU provider compute fastest."""

import numpy as np

from penstock.models.export.checkpoint import Checkpoint
from penstock.models.export.dialects.products import ByteProducts
from penstock.models.export.dialects.standard import Standard
from penstock.models.export.graph import CONTRIB, IDS
from penstock.models.export.weights import Weights

BLOCK = 256
"""Queries of a block. Its scores take 4 bytes for each head, query and key: memory grows with the text's length, no
longer with its square."""

QUARTERS = 4
SHORT, MEDIUM = 128, QUARTERS * BLOCK
"""Texts longer than the first are attended to in four blocks of queries; beyond the second in blocks of one size."""


class Cpu(ByteProducts, Standard):
    """Kernels of ONNX Runtime's CPU provider.

    The sum before a norm stays apart: the fused SkipSimplifiedLayerNormalization takes twice the time of both.
    """

    name = "cpu"
    precisions = ("fp32", "int8", "int7")

    def __init__(self, checkpoint: Checkpoint, weights: Weights, precision: str) -> None:
        """As in Standard."""
        super().__init__(checkpoint, weights, precision)
        self._by_quarter: tuple[str, str] | tuple[()] = ()
        self._tokens = ""

    def norm(self, x: str, name: str, precision: str | None = None) -> str:
        """As in Standard."""
        gain = self.vector(name, precision)
        return self.graph.op("RMSNormalization", x, gain, axis=-1, epsilon=self.config.rms_norm_eps)

    def gated(self, gate: str, up: str) -> str:
        """As in Standard; QuickGelu with alpha 1 is SiLU in one pass."""
        return self.graph.op("Mul", self.graph.op("QuickGelu", gate, domain=CONTRIB, alpha=1.0), up)

    def attention(self, x: str, layer: str, positions: str) -> str:
        """As in Standard; three matrices instead of one, which spares splitting their product."""
        g = self.graph
        q, k, v = self._heads(x, x, layer, positions, positions)
        step, seen = self._quarters()  # outside of the branches, since all layers share it
        is_long, is_longer = (g.op("Greater", self._length(), g.constant(most, np.int64)) for most in (SHORT, MEDIUM))
        return g.choose(
            is_long,
            lambda: g.choose(
                is_longer,
                lambda: self._attend_block_by_block(q, k, v),
                lambda: self._attend_in_quarters(q, k, v, step, seen),
            ),
            lambda: self.attend(q, k, v, is_causal=1),
        )

    def attention_of_last(self, x: str, last: str, layer: str, positions: str, place: str, mask: str) -> str:
        """The same for ``last`` ``[batch, 1, hidden]`` at ``place`` only, looking at all that ``mask`` shows."""
        return self.attend(*self._heads(x, last, layer, positions, place), mask=mask)

    def _heads(self, x: str, asking: str, layer: str, positions: str, place: str) -> tuple[str, str, str]:
        c = self.config
        q = self.linear(asking, f"{layer}.self_attn.q_proj.weight")
        q = self.rotate(q, f"{layer}.self_attn.q_norm.weight", c.num_attention_heads, place)
        k = self.linear(x, f"{layer}.self_attn.k_proj.weight")
        k = self.rotate(k, f"{layer}.self_attn.k_norm.weight", c.num_key_value_heads, positions)
        return q, k, self.linear(x, f"{layer}.self_attn.v_proj.weight")

    def _length(self) -> str:
        """Tokens of the longest text, a scalar; once per graph."""
        if not self._tokens:
            self._tokens = self.graph.dimension(IDS, 1)
        return self._tokens

    def _quarters(self) -> tuple[str, str]:
        """The size of a quarter of a text of medium length, and who sees whom, ``[length, length]``; once per graph."""
        g, int64, fours = self.graph, np.int64, QUARTERS * 4
        if not self._by_quarter:
            length = g.op("Min", self._length(), g.constant(MEDIUM, int64))  # longer ones need no such square
            rounded = g.op("Div", g.op("Add", length, g.constant(fours - 1, int64)), g.constant(fours, int64))
            places = g.op("Range", g.constant(0, int64), length, g.constant(1, int64))
            self._by_quarter = g.op("Mul", rounded, g.constant([4], int64)), self._sees(places, places)
        return self._by_quarter

    def _sees(self, asking: str, asked: str) -> str:
        """Which places see which: true where the second are not behind the first, ``[asking, asked]``."""
        columns, rows = (self._unsqueeze(places, axis) for places, axis in ((asked, 0), (asking, 1)))
        return self.graph.op("LessOrEqual", columns, rows)

    def _attend_in_quarters(self, q: str, k: str, v: str, step: str, seen: str) -> str:
        """A block of queries needs no keys after its end: with four blocks 6 of 16 parts are never computed."""
        c, results = self.config, []
        for quarter in range(QUARTERS):
            start, end = (
                self.graph.op("Mul", step, self.graph.constant([n], np.int64)) for n in (quarter, quarter + 1)
            )
            asking = self._part(q, start, end, c.query_width)
            keys, values = (self._part(x, None, end, c.key_width) for x in (k, v))
            mask = self._part(self._part(seen, start, end, axis=0), None, end)
            results.append(self.attend(asking, keys, values, mask=mask))
        return self.graph.op("Concat", *results, axis=1)

    def _attend_block_by_block(self, q: str, k: str, v: str) -> str:
        """Blocks of one size, one after the other: of all scores only those of a block are in memory."""
        g, c, int64 = self.graph, self.config, np.int64
        length = self._length()
        blocks = g.op("Div", g.op("Add", length, g.constant(BLOCK - 1, int64)), g.constant(BLOCK, int64))
        last = g.op("Sub", length, g.constant(1, int64))
        one, zero = g.constant(1, int64), g.constant(0, int64)

        def block(number: str) -> str:
            start = g.op("Mul", number, g.constant(BLOCK, int64))
            end = g.op("Add", start, g.constant(BLOCK, int64))
            rows = g.op("Min", g.op("Range", start, end, one), last)  # the last block repeats the last query
            asking = self._wide(g.op("Gather", q, rows, axis=1), c.query_width)
            end = g.op("Min", end, length)
            keys, values = (self._part(x, None, self._unsqueeze(end, 0), c.key_width) for x in (k, v))
            return self.attend(asking, keys, values, mask=self._sees(rows, g.op("Range", zero, end, one)))

        stacked = g.op("Transpose", g.each(blocks, block), perm=[1, 0, 2, 3])
        joined = g.op("Reshape", stacked, g.constant([0, -1, c.query_width], int64))
        return self._part(joined, None, self._unsqueeze(length, 0), c.query_width)

    def _part(self, x: str, start: str | None, end: str, width: int | None = None, axis: int = 1) -> str:
        """From start to end of an axis."""
        g = self.graph
        part = g.op("Slice", x, start or g.constant([0], np.int64), end, g.constant([axis], np.int64))
        return self._wide(part, width) if width else part

    def _wide(self, x: str, width: int) -> str:
        """The same with its width written down again, since slicing hides it from the next node."""
        return self.graph.op("Reshape", x, self.graph.constant([0, -1, width], np.int64))

    def _unsqueeze(self, x: str, axis: int) -> str:
        return self.graph.op("Unsqueeze", x, self.graph.constant([axis], np.int64))
