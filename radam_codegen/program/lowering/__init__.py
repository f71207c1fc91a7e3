"""The pass by itself: fused steps in the place of native updates, and back."""
