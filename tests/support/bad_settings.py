"""A value for each environment variable that cannot be used."""

from __future__ import annotations

from radam_codegen.config import SETTINGS

__all__ = ["BAD_SETTINGS"]

BAD_SETTINGS = {
    "RADAM_CODEGEN_CACHE_DIR": __file__,
    "RADAM_CODEGEN_CACHE_SIZE": "some",
    "RADAM_CODEGEN_MODE": "fast",
    "RADAM_CODEGEN_AOT": "/nowhere/at/all",
    "RADAM_CODEGEN_NUM_THREADS": "0",
    "CC": "gcc '",
    "CXX": "g++ '",
    "NVCC": "''",
    "RADAM_CODEGEN_COMPILE_TIMEOUT": "soon",
    "RADAM_CODEGEN_LOCK_TIMEOUT": "-1",
    "RADAM_CODEGEN_STATE_LAYOUT": "rows",
    "RADAM_CODEGEN_PROGRAM_KEY": "hash",
    "RADAM_CODEGEN_FREED_MEMORY": "leak",
}
assert list(BAD_SETTINGS) == [setting.variable for setting in SETTINGS]
