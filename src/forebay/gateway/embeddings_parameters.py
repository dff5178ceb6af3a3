"""The table of what `/v1/embeddings` takes; see `parameters.py` for the other dialects'."""

from typing import Final

from forebay.engine.protocol import Feature
from forebay.gateway.parameters import honoured, refused, warned

EMBEDDINGS: Final = (
    honoured("model", "A name from GET /v1/models; the first of them if not given."),
    honoured(
        "input",
        "A text, texts, token ids, or arrays of token ids; each becomes one vector.",
        Feature.EMBEDDINGS,
    ),
    refused(
        "dimensions",
        "No engine shortens vectors: send what GET /v1/capabilities calls embedding_size, or"
        " nothing.",
    ),
    honoured("encoding_format", "float, or base64: little-endian float32."),
    warned("user", "Nobody reads it."),
)
