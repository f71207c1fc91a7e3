"""``radam-codegen bench``: steps against what the memory allows, and against others."""
