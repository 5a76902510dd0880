"""RTSP cameras in, RTSP publishing out: media and engine under faults."""
