"""Certificate profiles: the model, the built-in declarations, and the engine that makes certificates of them."""
