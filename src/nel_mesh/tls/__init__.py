"""Certificates and keys: read in every form, chosen once, and turned into one `ssl.SSLContext`."""
