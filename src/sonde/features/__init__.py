"""The index: what every feature does. `build` writes it (torch), `index` reads it (no torch)."""
