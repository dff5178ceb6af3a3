"""The table of what `/generate` and its kin take; see `parameters.py` for OpenAI's."""

from typing import Final

from forebay.engine.protocol import Feature
from forebay.gateway.native_schemas import (
    BatchCall,
    GenerateCall,
    InferCall,
    NativeCall,
    StreamCall,
)
from forebay.gateway.parameters import Parameter, honoured, refused

_GENERATION: Final = (
    honoured("do_sample", "false: take the likeliest token each time. true: sample."),
    honoured(
        "frequency_penalty",
        "Lowers the odds of tokens by how often they were used.",
        Feature.FREQUENCY_PENALTY,
        neutral=(0,),
    ),
    honoured(
        "ignore_eos",
        "Do not stop at the end-of-sequence token, so that lengths are exact.",
        Feature.IGNORE_EOS,
        neutral=(False,),
    ),
    honoured("max_new_tokens", "Most tokens to make; `gateway.generate_tokens` if not given."),
    honoured("max_tokens", "Another name of max_new_tokens."),
    honoured(
        "min_p",
        "Drop tokens less likely than this share of the likeliest.",
        Feature.MIN_P,
        neutral=(0,),
    ),
    honoured(
        "min_tokens",
        "Make at least so many tokens before stopping.",
        Feature.TOKENS_MIN,
        neutral=(0,),
    ),
    honoured(
        "presence_penalty",
        "Lowers the odds of tokens that were used at all.",
        Feature.PRESENCE_PENALTY,
        neutral=(0,),
    ),
    honoured(
        "raw",
        "true: continue the prompt as it is. false: answer it as a user's turn."
        " `gateway.generate_prompts` if not given.",
    ),
    honoured("seed", "Makes sampling repeatable.", Feature.SEED),
    honoured("stop", "Texts that end the answer and are not in it.", Feature.STOP, neutral=([],)),
    honoured(
        "temperature",
        "0 takes the likeliest token each time; 1 samples as the model was trained.",
        Feature.TEMPERATURE,
        neutral=(1,),
    ),
    honoured(
        "top_k",
        "Sample from the k likeliest tokens; 0 or -1 is off.",
        Feature.TOP_K,
        neutral=(0, -1),
    ),
    honoured(
        "top_p",
        "Sample from the likeliest tokens whose odds add up to this.",
        Feature.TOP_P,
        neutral=(1,),
    ),
)
_MODEL: Final = honoured("model", "A name from GET /models; the first of them if not given.")
_PROMPT: Final = honoured("prompt", "One text.", Feature.CHAT, Feature.TEXT)
_PROMPTS: Final = honoured(
    "prompts", "Texts; each is a request of its own.", Feature.CHAT, Feature.TEXT
)


def _whole(name: str) -> Parameter:
    return refused("stream", f"{name} answers whole; POST /generate_stream streams.", False)  # noqa: FBT003 - a value that clients send


_STREAM: Final = honoured("stream", "This route streams; false is refused: POST /generate.")

NATIVE: Final[dict[str, tuple[type[NativeCall], tuple[Parameter, ...]]]] = {
    "/generate": (GenerateCall, (*_GENERATION, _MODEL, _PROMPT, _PROMPTS, _whole("/generate"))),
    "/generate_stream": (StreamCall, (*_GENERATION, _MODEL, _PROMPT, _STREAM)),
    "/generate_batch": (BatchCall, (*_GENERATION, _MODEL, _PROMPTS, _whole("/generate_batch"))),
    "/infer": (
        InferCall,
        (
            *_GENERATION,
            _PROMPT,
            honoured("base_model", "A model from GET /models; the first of them if not given."),
            honoured("adapter_version", "One of its versions; its own weights if not given."),
            _whole("/infer"),
        ),
    ),
}
"""Path -> what may be asked there, and what becomes of it."""
