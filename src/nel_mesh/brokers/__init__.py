"""The only I/O: network, disk, clock. Each in both colours, each without a decision, none knows another."""
