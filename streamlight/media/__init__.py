"""Containers, codecs, timestamps, colour. Knows PyAV; knows no model."""
