"""Installed as radam_codegen.templates."""
