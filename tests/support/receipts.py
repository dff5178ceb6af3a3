"""A stage that keeps receipts, and serves them."""

from dataclasses import replace

from forebay.core.clock import MONOTONIC
from forebay.core.record import Hook
from forebay.gateway.receipts import ReceiptPages
from forebay.telemetry.receipt import Stalled, no_stall
from forebay.telemetry.receipts import Receipts, ReceiptsConfig
from tests.support.gateways import Stage


def receipted(stage: Stage, kept_max: int = 100, stalled: Stalled = no_stall) -> Stage:
    """Let a stage keep receipts, as `observing.py` does."""
    gateway = stage.gateway
    receipts = Receipts(ReceiptsConfig(kept_max=kept_max), stalled)
    pages = ReceiptPages(
        receipts, gateway.access.oversees, now=MONOTONIC, wall=lambda: 1_700_000_000.0
    )
    hooks: tuple[Hook, ...] = (*gateway.hooks, receipts)
    gateway.hooks, gateway.over = hooks, (receipts.over,)
    gateway.pipeline = replace(gateway.pipeline, hooks=hooks)  # type: ignore[type-var]  # it is one
    gateway.extra, gateway.extra_below = pages.endpoints(), pages.endpoints_below()
    gateway.reconfigure(gateway.config, gateway.cache)
    return stage
