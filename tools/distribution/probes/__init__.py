"""Programs that run in the environments, with nothing but what is installed there."""
