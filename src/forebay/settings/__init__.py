"""What is set, where it may be set, and what stops the start: every `*Config` in one place."""

from forebay.settings.live import LiveSettings
from forebay.settings.loading import ConfigurationError, Loaded, load
from forebay.settings.offers import OfferConfig
from forebay.settings.sections import EngineConfig, ModelConfig, ServerConfig, Settings
from forebay.settings.sources import Sources

__all__ = [
    "ConfigurationError",
    "EngineConfig",
    "LiveSettings",
    "Loaded",
    "ModelConfig",
    "OfferConfig",
    "ServerConfig",
    "Settings",
    "Sources",
    "load",
]
