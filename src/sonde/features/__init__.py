"""The index: what every feature does. `index` writes it (torch), `store` reads it (no torch)."""
