"""The table of what `/v1/responses` takes; see `parameters.py` for the other dialects'."""

from typing import Final

from forebay.engine.protocol import Feature
from forebay.gateway.parameters import honoured, of_tools, refused, warned

_STATELESS: Final = "Nothing is stored; send the whole conversation in input."

RESPONSES: Final = (
    honoured("model", "A name from GET /v1/models."),
    honoured("input", "A text, or messages, calls and their results in order.", Feature.CHAT),
    refused("access_programs", "There are none; leave it out."),
    refused("background", "Answers are made while you wait; send false or nothing.", False),  # noqa: FBT003 - a value that clients send
    refused("context_management", "Contexts are not compacted; leave it out.", []),
    refused("conversation", _STATELESS),
    refused("image", "Answers are text only; leave it out."),
    refused("include", "There is nothing more to include; leave it out.", []),
    honoured("instructions", "A system message before the input."),
    honoured("max_output_tokens", "Most tokens to make."),
    warned("max_tool_calls", "It counts calls of built-in tools; there are none."),
    warned("metadata", "Nothing is stored, so there is nothing to attach it to.", {}),
    refused("moderation", "Answers are not moderated here; leave it out."),
    of_tools("parallel_tool_calls", "false: at most one call an answer.", True, False),  # noqa: FBT003 - values that clients send
    refused("previous_response_id", _STATELESS),
    refused("prompt", "No prompts are stored; send it in input."),
    warned("prompt_cache_key", "The prefix cache finds shared prompts by itself."),
    warned("prompt_cache_options", "The prefix cache decides by itself."),
    warned("prompt_cache_retention", "The prefix cache decides by itself."),
    refused(
        "reasoning",
        'The model does not reason first; send {"effort": "none"} or nothing.',
        *({}, {"effort": "none"}),
    ),
    warned("safety_identifier", "Nobody reads it."),
    refused("service_tier", 'There is one tier; send "auto" or "default".', "auto", "default"),
    refused("store", "Nothing is stored; send false or nothing.", False),  # noqa: FBT003 - a value that clients send
    honoured("stream", "Send the answer as it is made, as server-sent events."),
    warned("stream_options", "Events are not padded.", {}),
    honoured(
        "temperature",
        "0 takes the likeliest token each time; 1 samples as the model was trained.",
        Feature.TEMPERATURE,
        neutral=(1,),
    ),
    honoured("text", "format: text, json_object or json_schema; the last two where possible."),
    of_tools(
        "tool_choice",
        "none, auto, required, or a function; the last two where the engine has grammars.",
        *("none", "auto"),
    ),
    of_tools("tools", "Functions that the model may call, or must, by tool_choice.", []),
    refused("top_logprobs", "Only whole texts are told; send 0 or nothing.", 0),
    honoured(
        "top_p",
        "Sample from the likeliest tokens whose odds add up to this.",
        Feature.TOP_P,
        neutral=(1,),
    ),
    refused("truncation", 'What is too long is refused; send "disabled" or nothing.', "disabled"),
    warned("user", "Nobody reads it."),
)
