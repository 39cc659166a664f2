"""One module for each kernel subject; nothing here knows what a container is."""
