"""Installed as radam_codegen.runtime."""
