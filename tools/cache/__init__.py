"""``radam-codegen cache``: what is in the cache, and how to get rid of it."""
