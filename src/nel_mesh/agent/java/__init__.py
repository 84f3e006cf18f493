"""What the agent needs in order to take the place of NHS England's Java client, folder for folder."""
