"""Scripted experts and scripted failures of the table-top suite, and the recording of both."""
