"""SAM2: build, weights, the one forward pass, class prompts, fusion."""
