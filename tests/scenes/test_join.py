"""A second machine joins with the line that the first one prints, and answers clients; nobody else gets in."""

import stat
from pathlib import Path

import httpx
import pytest

from tests.cli.command import actors
from tests.nodes import StartNode, watching


async def test_a_node_joins_with_the_token_and_serves(start_node: StartNode, tmp_path: Path) -> None:
    first = await start_node("a", "--accept-peers", "--model", "none")
    assert first.info.join_url.startswith("tls://")
    assert stat.S_IMODE((first.folder / "node.json").stat().st_mode) == 0o600
    assert first.info.join_url.split("@")[0].removeprefix("tls://") not in first.journal
    joined = await start_node("b", "--join", first.info.join_url, "--no-master")
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(
            f"{joined.openai_url}/chat/completions",
            json={
                "model": "guide",
                "messages": [{"role": "user", "content": "reverse the word cat"}],
                "temperature": 0,
            },
        )
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "tac"
    async with watching(joined) as bus:
        assert {node.name for node in bus.view.state.nodes.values() if node.alive} == {"a", "b"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("tls://another-token-than-that@{host}", "is not to be trusted"),
        ("tls://{token}@{host} --cluster trope", "carries no cluster named 'trope'; did you mean 'troupe'?"),
    ],
)
async def test_who_cannot_join_is_told_why(
    start_node: StartNode, tmp_path: Path, url: str, said: str
) -> None:
    first = await start_node("a", "--accept-peers", "--model", "none", "--no-worker", "--no-api")
    token, _, host = first.info.join_url.removeprefix("tls://").partition("@")
    words = url.format(token=token, host=host).split()
    ran = await actors("up", "--data-dir", str(tmp_path / "b"), "--join", *words, home=tmp_path)
    assert ran.code == 1 and said in ran.err and token not in ran.err, ran.err
