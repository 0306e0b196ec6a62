"""Configuration of enforcement points made by others, and what it is worth."""
