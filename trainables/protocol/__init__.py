"""What a Dice means: prompts, components, clean-up, views at inference, scores."""
