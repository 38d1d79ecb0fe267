"""mcp-memory-service: its storage on sqlite-vec, with the hash embeddings it falls back to."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from pathlib import Path

folder = tempfile.TemporaryDirectory()
os.environ |= {"HOME": folder.name, "MCP_MEMORY_BASE_DIR": folder.name, "MCP_MEMORY_USE_ONNX": "0", "MCP_MEMORY_ALLOW_HASH_EMBEDDINGS": "1", "MCP_QUALITY_SYSTEM_ENABLED": "false"}
logging.disable(logging.CRITICAL)

from mcp_memory_service.models import Memory
from mcp_memory_service.storage.sqlite_vec import SqliteVecMemoryStorage
from mcp_memory_service.utils import generate_content_hash

from made_up import show

TEXTS = ["the key is under the mat", "milk is in the fridge", "the train leaves at nine", "the code is 1234"]


def memory(text: str, tag: str) -> Memory:
    return Memory(content=text, content_hash=generate_content_hash(text), tags=[tag], memory_type="note", created_at=1.7e9, updated_at=1.7e9)


def found(results: list) -> list:
    return [[r.memory.content, r.relevance_score] for r in results]


async def main() -> None:
    file = str(Path(folder.name) / "memory.db")
    storage = SqliteVecMemoryStorage(file)
    await storage.initialize()
    for i, text in enumerate(TEXTS):
        show(f"store {i}", (await storage.store(memory(text, f"tag{i % 2}"), skip_semantic_dedup=True))[0])
    show("twice", (await storage.store(memory(TEXTS[0], "tag0")))[0])
    show("retrieve", found(await storage.retrieve(TEXTS[1], n_results=3)))
    show("by tag", sorted(m.content for m in await storage.search_by_tag(["tag1"])))
    show("recall", found(await storage.recall(TEXTS[2], n_results=2)))
    show("delete", (await storage.delete(generate_content_hash(TEXTS[3])))[0])
    show("batch", [ok for ok, _ in await storage.store_batch([memory(f"batch {i}", "b") for i in range(30)])])
    show("retrieve again", found(await storage.retrieve("batch 7", n_results=5)))
    show("other store", (await storage.store(memory("elsewhere", "o"), skip_semantic_dedup=True, store="second"))[0])
    show("stores", sorted(await storage.get_stores()))
    show("count", await storage.count_all_memories())
    rows = "SELECT store, count(*) FROM memory_embeddings GROUP BY store"
    show("rows by store", [list(r) for r in storage.conn.execute(rows)])
    await storage.close()

    again = SqliteVecMemoryStorage(file)
    await again.initialize()
    show("reopened", found(await again.retrieve(TEXTS[0], n_results=2)))
    await again.close()


asyncio.run(main())
