"""Which files of a place an engine of ours reads."""

import re

from schemas.manifest import Manifest

WANTED = re.compile(r"[^./][^/]*\.(json|jinja|model|txt|tiktoken)|model[^/]*\.safetensors")
"""Only at the top: no code, no other formats, no second copy of the weights in a folder."""
NEEDED = ("config.json", "tokenizer.json")
WEIGHTS = ".safetensors"


def lacks(manifest: Manifest) -> str:
    """What the model would need to be servable; empty when it has it all: asked before the download."""
    names = {file.name for file in manifest.files}
    for name in NEEDED:
        if name not in names:
            return name
    weights = any(name.endswith(WEIGHTS) for name in names)
    return "" if weights else "weights in safetensors files (model*.safetensors)"
