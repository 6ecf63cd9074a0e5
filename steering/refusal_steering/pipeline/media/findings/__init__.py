"""What a build through the engine has found, as the measurements of its report."""
