"""Installed as radam_codegen.tools."""
