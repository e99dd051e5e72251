"""From a calibrated model to an integer one: traced, layer by layer, into steps of packed tensors."""
