"""The steps of `nel-mesh check`, and the settings in force: for the command line, the agent and the console."""
