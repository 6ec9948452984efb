"""What an asset may ask for: the lake and the engine."""
