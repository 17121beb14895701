"""LoRA and other adapters: where they sit, how they are attached, removed, merged and scaled."""
