"""An upstream over https: verified, or not asked."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import EngineError
from forebay.core.request import Finished
from forebay.engines.upstream import UpstreamEngine
from forebay.engines.upstream_config import UpstreamConfig
from tests.support.events import EventList
from tests.support.upstreams import Upstream, completion, said, whole, wish, written

WHOLE = written(whole(completion(b"fine")))


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    alternative = "IP:127.0.0.1" if name == "right" else "DNS:elsewhere.example"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName={alternative}"),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


@pytest.mark.parametrize(("name", "trusted"), [("right", True), ("right", False), ("wrong", True)])
async def test_https_is_verified(tmp_path: Path, name: str, *, trusted: bool) -> None:
    key, certificate = _certificate(tmp_path, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    found = Upstream(WHOLE)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    config = UpstreamConfig(
        urls=f"https://127.0.0.1:{port}",
        ca_file=str(certificate) if trusted else "",
        start_s_max=0.7,
    )
    engine = UpstreamEngine(config, now=MONOTONIC, log=EventList())
    try:
        if trusted and name == "right":
            await engine.start()
            assert isinstance((await said(engine, wish(stream=False)))[-1], Finished)
        else:
            with pytest.raises(EngineError, match="verify failed"):
                await engine.start()
    finally:
        await engine.stop()
        server.close()
        async with asyncio.timeout(5.0):
            while found.open:
                await asyncio.sleep(0.01)
