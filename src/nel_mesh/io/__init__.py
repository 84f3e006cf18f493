"""The only I/O: network, disk, clock. Each in both variants, each without a decision, none knows another."""
