"""The agent: empties mailboxes, sends what is put into folders, and says when a person is needed. Extra `agent`."""
