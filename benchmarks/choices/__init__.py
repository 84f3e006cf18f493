"""What the client's own numbers come from: each script measures the alternatives, and says what that decided."""
