"""Logging and OpenTelemetry instrumentation of client operations."""
