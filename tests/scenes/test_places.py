"""A model that has no place on a real node: said at once, with what is missing; served when it asks for less."""

from pathlib import Path

import httpx

from tests.cli.command import actors
from tests.models import make_random_llama
from tests.nodes import StartNode

FEW = "it takes 4 nodes, and there are 1"


async def test_a_cache_that_no_node_can_hold_is_said_and_a_smaller_one_is_served(
    start_node: StartNode, tmp_path: Path
) -> None:
    node = await start_node("a", "--model", "none")
    folder = make_random_llama(tmp_path / "model", hidden=64, layers=4, context=2**20)
    where = ("--data-dir", str(node.folder))
    asked = ("load", str(folder), "--id", "m", "--context", str(2**20))
    refused = await actors(*asked, "--slots", "4096", *where)
    assert refused.code == 1
    assert "bytes are missing" in refused.err
    chat = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    async with httpx.AsyncClient(base_url=node.info.api_url, timeout=60) as http:
        answer = await http.post("/v1/chat/completions", json=chat)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_place")
        shown = (await http.get("/cluster/previews", params={"model": "m"})).json()
        assert shown["plans"] == []
        missing = [one["missing_bytes"] for one in shown["refused"] if one["split"] == "whole"]
        assert (
            missing[0] > 2**40 - 2**38
        )  # 4096 sequences x 2**20 tokens x 4 layers x 256 bytes, less what is there
        placed = await actors(*asked, "--slots", "1", *where)
        assert placed.code == 0, placed.err
        shown = (await http.get("/cluster/previews", params={"model": "m"})).json()
        plan = shown["plans"][0]
        assert plan["split"] == "whole"
        assert plan["parts"][0]["fetch_bytes"] == 0
        assert plan["tokens_s"] > 1
        assert (await http.post("/v1/chat/completions", json=chat)).status_code == 200
        wish = {"id": "h", "source": str(folder), "strategy": "hybrid"}
        odd = await http.post("/cluster/models", json=wish | {"backend": "jaccl"})
        assert odd.status_code == 400, odd.text
        assert "strategy is hybrid" in odd.text and "backend is jaccl" in odd.text
        lonely = await actors("load", str(folder), "--id", "h", "--strategy", "hybrid", *where)
        assert (lonely.code, FEW in lonely.err) == (1, True), lonely.err
        shown = (await http.get("/cluster/previews", params={"model": "h"})).json()
        assert FEW in [one["reason"] for one in shown["refused"] if one["split"] == "hybrid"]
        answer = await http.post("/v1/chat/completions", json=chat | {"model": "h"})
        assert (answer.status_code, FEW in answer.text) == (503, True), answer.text
    told = (await actors("preview", "m", *where)).out
    assert "whole" in told
    assert f"not hybrid: {FEW}" in " ".join(told.split())
