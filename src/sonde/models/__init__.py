"""Models as published, their sites, reading, editing and generating."""
