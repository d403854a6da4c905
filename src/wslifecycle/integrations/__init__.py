"""What plugs wslifecycle into servers that others wrote; each module needs the extra of its name."""
