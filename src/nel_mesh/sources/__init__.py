"""Where content that is sent can come from, besides this machine: stores."""
