"""The graphs of decoders, written out: of Llama's family and of GPT-2.

Inputs and outputs are named as onnxruntime-genai's own builder names them, so its runtime loads
these too.  Only the last token of a prompt gets logits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from forebay.models.onnx_weights import Weights, product
from forebay.models.onnx_writing import GraphWriter, Value
from forebay.models.precisions import Precision

PAST: Final = "past_key_values.%d."
PRESENT: Final = "present.%d."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a decoder."""

    layers: int
    width: int
    inner: int
    """Width inside a layer's second half."""
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    positions: int
    epsilon: float
    theta: float = 0.0
    """Base of the rotary positions; 0: positions are learned."""
    tied: bool = True
    """The matrix that reads tokens in also reads them out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """What a graph is written from, and into."""

    graph: GraphWriter
    weights: Weights
    shape: Shape
    precision: Precision
    tell: Callable[[int, int], None]
    """Takes (layers done, of how many)."""

    def get(self, name: str, *shape: int) -> Any:  # noqa: ANN401 - numpy's
        """Return a weight."""
        return self.weights.get(name, *shape)

    def vector(self, name: str, size: int) -> str:
        """Add a vector to the graph."""
        return self.graph.weight(self.get(name, size))

    def product(self, value: str, matrix: Any) -> str:  # noqa: ANN401 - numpy's
        """Multiply by a matrix of [inputs, outputs]."""
        return product(self.graph, value, matrix, precision=self.precision)

    def linear(self, value: str, *names: str, inputs: int, outputs: tuple[int, ...]) -> str:
        """Apply layers of transformers' Linear side by side, their biases if they have any."""
        import numpy as np  # noqa: PLC0415 - heavy

        sides = list(zip(names, outputs, strict=True))
        matrix = np.concatenate([self.get(f"{n}.weight", size, inputs).T for n, size in sides], 1)
        made = self.product(value, matrix)
        if f"{names[0]}.bias" not in self.weights:
            return made
        bias = np.concatenate([self.get(f"{name}.bias", size) for name, size in sides])
        return self.graph.node("Add", made, self.graph.weight(bias))

    def embedding(self, ids: str, table: Any) -> str:  # noqa: ANN401 - numpy's
        """Look ids up; beside matrices of few bits, a table of 32 would be most of the memory."""
        import numpy as np  # noqa: PLC0415 - heavy

        if self.precision is Precision.FP32 or np.abs(table).max() > np.finfo(np.float16).max:
            return self.graph.node("Gather", self.graph.weight(table), ids)
        halves = self.graph.weight(table.astype(np.float16))
        return self.graph.node("Cast", self.graph.node("Gather", halves, ids), to=1)

    def lengths(self) -> tuple[str, str]:
        """Return what attention asks for: each sequence's length less one, and the longest."""
        import numpy as np  # noqa: PLC0415 - heavy

        graph = self.graph
        one = graph.constant(np.array([1], dtype=np.int64))
        total = graph.node("ReduceSum", "attention_mask", one, keepdims=0)
        last = graph.node("Cast", graph.node("Sub", total, one), to=6)
        place = graph.constant(np.array(1, dtype=np.int64))
        most = graph.node("Gather", graph.node("Shape", "attention_mask"), place, axis=0)
        return last, graph.node("Cast", most, to=6)

    def attention(self, layer: int, qkv: str, lengths: tuple[str, str], *turns: str) -> str:
        """Attend to the tokens so far, whose keys and values are kept; `turns`: cosine, sine."""
        shape = self.shape
        past, present = PAST % layer, PRESENT % layer
        made, _, _ = self.graph.fused(
            "GroupQueryAttention",
            *(qkv, "", "", f"{past}key", f"{past}value", *lengths, *turns),
            outputs=("", f"{present}key", f"{present}value"),
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            scale=shape.head_size**-0.5,
            do_rotary=1 if turns else 0,
        )
        return made

    def last(self, value: str) -> str:
        """Return the last token of each sequence."""
        import numpy as np  # noqa: PLC0415 - heavy

        end = self.graph.constant(np.array([-1], dtype=np.int64))
        return self.graph.node("Gather", value, end, axis=1)

    def finish(self, hidden: str, table: Any, *inputs: Value) -> None:  # noqa: ANN401 - numpy's
        """Read the last token out by a table of [vocabulary, width], and write the graph."""
        shape = self.shape
        self.graph.name(self.product(self.last(hidden), table.T), "logits")
        kv = (shape.kv_heads, shape.head_size)
        past, present = [], []
        for layer in range(shape.layers):
            for part in ("key", "value"):
                sizes = ("batch_size", kv[0], "past_sequence_length", kv[1])
                past.append(Value(f"{PAST % layer}{part}", "float32", sizes))
                sizes = ("batch_size", kv[0], "total_sequence_length", kv[1])
                present.append(Value(f"{PRESENT % layer}{part}", "float32", sizes))
        logits = Value("logits", "float32", ("batch_size", 1, shape.vocabulary))
        asked = Value("input_ids", "int64", ("batch_size", "sequence_length"))
        mask = Value("attention_mask", "int64", ("batch_size", "total_sequence_length"))
        self.graph.finish((asked, mask, *inputs, *past), (logits, *present))


def write_llama(writing: Writing) -> None:
    """Write a decoder with rotary positions, RMS norms and a gated second half."""
    graph, shape = writing.graph, writing.shape
    width, kv_width = shape.width, shape.kv_heads * shape.head_size
    qkv_sizes = (shape.heads * shape.head_size, kv_width, kv_width)
    lengths = writing.lengths()
    turns = _turns(writing)
    table = writing.get("model.embed_tokens.weight", shape.vocabulary, width)
    hidden = writing.embedding("input_ids", table)

    def normed(change: str, name: str) -> tuple[str, str]:
        made, _, _, total = graph.fused(
            "SkipSimplifiedLayerNormalization",
            *(hidden, change, writing.vector(f"{name}.weight", width)),
            outputs=("", None, None, ""),
            epsilon=shape.epsilon,
        )
        return made, total

    first = writing.vector("model.layers.0.input_layernorm.weight", width)
    norm = graph.node("SimplifiedLayerNormalization", hidden, first, axis=-1, epsilon=shape.epsilon)
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        names = [f"{prefix}.self_attn.{part}_proj" for part in "qkv"]
        qkv = writing.linear(norm, *names, inputs=width, outputs=qkv_sizes)
        seen = writing.attention(layer, qkv, lengths, *turns)
        output = f"{prefix}.self_attn.o_proj"
        change = writing.linear(seen, output, inputs=qkv_sizes[0], outputs=(width,))
        norm, hidden = normed(change, f"{prefix}.post_attention_layernorm")
        gate, up = (
            writing.linear(norm, f"{prefix}.mlp.{part}", inputs=width, outputs=(shape.inner,))
            for part in ("gate_proj", "up_proj")
        )
        gate = graph.node("Mul", gate, graph.node("Sigmoid", gate))
        inner = graph.node("Mul", gate, up)
        down = f"{prefix}.mlp.down_proj"
        change = writing.linear(inner, down, inputs=shape.inner, outputs=(width,))
        more = layer + 1 < shape.layers
        following = f"model.layers.{layer + 1}.input_layernorm" if more else "model.norm"
        norm, hidden = normed(change, following)
        writing.tell(layer + 1, shape.layers)
    if not shape.tied:
        table = writing.get("lm_head.weight", shape.vocabulary, width)
    writing.finish(norm, table)


def write_gpt2(writing: Writing) -> None:
    """Write a decoder with learned positions, layer norms and biases everywhere."""
    graph, shape = writing.graph, writing.shape
    width = shape.width
    root = "transformer." if "transformer.wte.weight" in writing.weights else ""
    lengths = writing.lengths()
    table = writing.get(f"{root}wte.weight", shape.vocabulary, width)
    places = writing.get(f"{root}wpe.weight", shape.positions, width)
    hidden = graph.node(
        "Add",
        writing.embedding("input_ids", table),
        graph.node("Gather", graph.weight(places), "position_ids"),
    )

    def scaled(name: str) -> tuple[str, str]:
        return writing.vector(f"{name}.weight", width), writing.vector(f"{name}.bias", width)

    def projected(value: str, name: str, *, inputs: int, outputs: int) -> str:
        # GPT-2 keeps its matrices as [inputs, outputs].
        made = writing.product(value, writing.get(f"{name}.weight", inputs, outputs))
        return graph.node("Add", made, writing.vector(f"{name}.bias", outputs))

    def normed(change: str, name: str) -> tuple[str, str]:
        made, _, _, total = graph.fused(
            "SkipLayerNormalization",
            *(hidden, change, *scaled(name)),
            outputs=("", None, None, ""),
            epsilon=shape.epsilon,
        )
        return made, total

    first = scaled(f"{root}h.0.ln_1")
    norm = graph.node("LayerNormalization", hidden, *first, axis=-1, epsilon=shape.epsilon)
    for layer in range(shape.layers):
        prefix = f"{root}h.{layer}"
        qkv = projected(norm, f"{prefix}.attn.c_attn", inputs=width, outputs=3 * width)
        seen = writing.attention(layer, qkv, lengths)
        change = projected(seen, f"{prefix}.attn.c_proj", inputs=width, outputs=width)
        norm, hidden = normed(change, f"{prefix}.ln_2")
        inner = projected(norm, f"{prefix}.mlp.c_fc", inputs=width, outputs=shape.inner)
        (inner,) = graph.fused("FastGelu", inner)
        change = projected(inner, f"{prefix}.mlp.c_proj", inputs=shape.inner, outputs=width)
        more = layer + 1 < shape.layers
        following = f"{root}h.{layer + 1}.ln_1" if more else f"{root}ln_f"
        norm, hidden = normed(change, following)
        writing.tell(layer + 1, shape.layers)
    if not shape.tied:
        table = writing.get("lm_head.weight", shape.vocabulary, width)
    places_asked = Value("position_ids", "int64", ("batch_size", "sequence_length"))
    writing.finish(norm, table, places_asked)


def _turns(writing: Writing) -> tuple[str, str]:
    """Return the cosines and sines of every position, [positions, head size / 2]."""
    import numpy as np  # noqa: PLC0415 - heavy

    shape = writing.shape
    halves = np.arange(0, shape.head_size, 2, dtype=np.float64) / shape.head_size
    angles = np.outer(np.arange(shape.positions), shape.theta**-halves)
    cosine, sine = (made.astype(np.float32) for made in (np.cos(angles), np.sin(angles)))
    return writing.graph.weight(cosine), writing.graph.weight(sine)


WRITERS: Final[Mapping[str, Callable[[Writing], None]]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2"), write_llama),
    "gpt2": write_gpt2,
}
"""How the graph of a model type in config.json is written."""
