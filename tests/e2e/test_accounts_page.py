"""The page about accounts, word for word: its commands lead from nothing to a served key."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.server import serving

ROOT = Path(__file__).parents[2]
SERVE = "forebay serve --set access.mode=closed"
KEY = "export FOREBAY_KEY=fb_live_..."


def test_the_pages_commands_lead_from_nothing_to_an_answer(tmp_path: Path) -> None:
    text = (ROOT / "docs/accounts.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    serve, make, ask, audit = (block.strip() for block in blocks)
    assert serve == SERVE
    words = (*SERVE.split()[2:], "--engine", "scripted")
    with serving(tmp_path, *words) as server:
        assert "  user     admin" in server.log.read_text()
        made = run(make, tmp_path)
        (key,) = re.findall(r"^fb_live_\w+$", made, re.MULTILINE)
        assert KEY in ask
        asked = ask.replace(KEY, f"export FOREBAY_KEY={key}")
        listed = run(asked.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"), tmp_path)
        assert '"id":"scripted"' in listed
        assert "key.created" in run(audit, tmp_path)
        assert "none changed" in run(audit, tmp_path)


def run(words: str, folder: Path) -> str:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"XDG_STATE_HOME": str(folder), "PATH": programs}
    done = subprocess.run(
        ["bash", "-euc", words],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout
