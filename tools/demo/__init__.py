"""The demo: one network trained by both optimizers, native and generated."""
