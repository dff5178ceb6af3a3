"""Who runs the commands that our documents show: the command, and the test or script of ours.

A document's fenced commands are promises.  `test_documents.py` fails on a command that is not in
this list, and on an entry whose test is gone.
"""

from typing import Final

RUN_BY: Final[dict[str, str]] = {}
