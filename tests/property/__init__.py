"""Properties that hold for all generated inputs."""
