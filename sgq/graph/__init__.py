"""Sites of any model, class-swap wrapping, and degree buckets. Knows PyG, but no recipe and no file."""
