"""Reading Paddle: arguments, parameters and gradients become an ``UpdatePlan``."""
