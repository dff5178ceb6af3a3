"""A graph under onnxruntime: reads a prompt into a row, or makes a token for every row at once.

Keys and values are written in place, because past and present are bound to the same memory.  Rows
from the first on make one batch, each with a length of its own: the mask says how long.
"""

from collections.abc import Sequence
from typing import Any, Final

from forebay.core.request import TokenId
from forebay.engine.manifest import ArtefactError
from forebay.engines.onnx_folder import OnnxModel, check_graph
from forebay.engines.onnx_rows import KvRows

_ONLY_ERRORS: Final = 3
_BINDINGS_MAX: Final = 16
"""Each keeps the ids and the mask of its last run."""


class OnnxDecoder:
    """One loaded graph.  Mutable state: bindings, one for each batch of rows met so far."""

    def __init__(self, model: OnnxModel, *, threads: int) -> None:
        """Load the graph and its weights; raise ArtefactError if they cannot be used."""
        import onnxruntime as ort  # noqa: PLC0415 - heavy
        from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - heavy

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the processor from the gateway, and from each
        # other: on a busy machine of two a step took 50 to 67 ms instead of 27 to 31.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _ONLY_ERRORS
        try:
            self._session = ort.InferenceSession(
                str(model.path), options, providers=["CPUExecutionProvider"]
            )
        except (
            *(state.Fail, state.InvalidProtobuf, state.InvalidArgument, state.InvalidGraph),
            *(state.NoModel, state.NoSuchFile, state.NotImplemented, state.RuntimeException),
        ) as error:
            raise ArtefactError(
                f"{model.path} is not a graph that onnxruntime {ort.__version__} can load "
                f"({_first_line(error)}). Remove the folder and run `forebay pull MODEL` again; if "
                "it stays so, export the model anew."
            ) from error
        self._model = model
        found = {node.name: node for node in self._session.get_inputs()}
        made = {node.name: node for node in self._session.get_outputs()}
        check_graph(model, found, made)
        self._positions = model.position_ids in found
        self._last_only = made[model.logits].shape[1] == 1
        self._rows: KvRows | None = None
        self._bindings: dict[tuple[int, int], Any] = {}

    def attach(self, rows: KvRows) -> None:
        """Keep keys and values in these rows from now on."""
        self._rows = rows
        self._bindings.clear()

    def read(self, row: int, token_ids: Sequence[TokenId], *, past: int) -> Any:  # noqa: ANN401 - numpy's
        """Append tokens to a row that has `past`; return the logits after the last, [1, tokens]."""
        import numpy as np  # noqa: PLC0415 - heavy

        ids = np.array([token_ids], dtype=np.int64)
        length = past + len(token_ids)
        places = np.arange(past, length, dtype=np.int64)[np.newaxis]
        mask = np.ones((1, length), dtype=np.int64)
        return self._run((row, 1), ids, mask=mask, places=places)

    def extend(self, token_ids: Sequence[TokenId], lengths: Sequence[int]) -> Any:  # noqa: ANN401 - numpy's
        """Append a token to each row from the first on; return logits, [rows, tokens].

        `lengths` count the new token.
        """
        import numpy as np  # noqa: PLC0415 - heavy

        ids = np.array(token_ids, dtype=np.int64)[:, np.newaxis]
        ends = np.array(lengths, dtype=np.int64)[:, np.newaxis]
        mask = (np.arange(max(lengths))[np.newaxis] < ends).astype(np.int64)
        return self._run((0, len(lengths)), ids, mask=mask, places=ends - 1)

    def close(self) -> None:
        """Give the memory back."""
        self._bindings.clear()
        self._rows = None
        del self._session

    def _run(self, rows: tuple[int, int], ids: Any, *, mask: Any, places: Any) -> Any:  # noqa: ANN401 - numpy's
        import numpy as np  # noqa: PLC0415 - heavy

        binding = self._bindings.get(rows)
        if binding is None:
            if len(self._bindings) == _BINDINGS_MAX:
                self._bindings.clear()
            binding = self._bindings[rows] = self._bind(*rows)
        binding.bind_cpu_input(self._model.input_ids, ids)
        binding.bind_cpu_input(self._model.attention_mask, mask)
        if self._positions:
            binding.bind_cpu_input(self._model.position_ids, places)
        count, length = ids.shape
        shape = (count, 1 if self._last_only else length, self._model.vocabulary_size)
        logits = np.empty(shape, dtype=np.float32)
        place = logits.ctypes.data
        binding.bind_output(self._model.logits, "cpu", 0, np.float32, shape, place)
        self._session.run_with_iobinding(binding)
        return logits[:, -1]

    def _bind(self, first: int, count: int) -> Any:  # noqa: ANN401 - the library's
        import numpy as np  # noqa: PLC0415 - heavy

        assert self._rows is not None, "attached before it reads"
        binding = self._session.io_binding()
        shape = (count, *self._rows.shape)
        names = zip(self._model.past, self._model.present, strict=True)
        for (past, present), place in zip(names, self._rows.addresses(first), strict=True):
            binding.bind_input(past, "cpu", 0, np.float32, shape, place)
            binding.bind_output(present, "cpu", 0, np.float32, shape, place)
        return binding


def _first_line(error: Exception) -> str:
    text = str(error).splitlines()
    return text[0][:200] if text else type(error).__name__
