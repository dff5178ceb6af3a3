"""The store of a server that shares nothing with other machines: a file, or memory."""

from forebay.core.clock import Clock
from forebay.core.record import EventLog
from forebay.serve.replay_config import ReplayConfig
from forebay.serve.store import MemoryStore, Store
from forebay.serve.store_shelter import ShelteredStore
from forebay.serve.store_sqlite import SqliteFile, SqliteStore


def own_store(config: ReplayConfig, now: Clock, log: EventLog) -> Store:
    """Put together what `config` asks for; no file is opened yet."""
    memory = MemoryStore(now, bytes_max=config.memory_bytes_max, entries_max=config.entries_max)
    if config.store == "memory":
        return memory
    file = SqliteFile(
        path=config.file(),
        bytes_max=config.store_bytes_max,
        entries_max=config.entries_max,
        answer_s_max=config.store_s_max,
    )
    return ShelteredStore(SqliteStore(file, log), memory, owed_max=config.entries_max)
