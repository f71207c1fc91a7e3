"""Whole training steps: forward and backward alone, with our optimizer, with Paddle's own."""

from __future__ import annotations

from radam_codegen.tools.bench.contestants import Contestant

__all__ = ["BASE", "BASE_KEPT", "NETWORKS", "network_contestants"]

#: Names, as the file of the folder ``worker`` has them, with what people call them.
NETWORKS = {
    "mlp-50x256": "50 layers of 256 x 256, batch of 8",
    "resnet50": "ResNet-50, batch of 2 x 3 x 64 x 64",
    "bert-base": "BERT-base encoder, batch of 1 x 32 tokens",
}
#: Of all networks' contestants, the one without an optimizer.
BASE = "forward-backward"
#: That one with malloc told what ours tells it: to keep what is freed.
BASE_KEPT = "forward-backward-kept"

_KEEP = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    # No version of the C library allows less.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}


def network_contestants(network: str, ir: str) -> tuple[Contestant, ...]:
    """Who takes part in the race over a network.

    Args:
        network: Its name.
        ir: ``"pir"`` or ``"legacy"``.
    """
    options = {"network": network}
    flag = {"FLAGS_enable_pir_api": "1" if ir == "pir" else "0"}
    return tuple(
        Contestant(
            f"{name}-{ir}",
            title,
            "network",
            {**options, "optimizer": optimizer},
            {**flag, **environment},
        )
        for name, title, optimizer, environment in (
            (BASE, "forward and backward", "none", {}),
            (BASE_KEPT, "forward and backward, memory kept", "none", _KEEP),
            ("ours", "with ours", "ours", {}),
            ("native", "with native", "native", {}),
        )
    )
