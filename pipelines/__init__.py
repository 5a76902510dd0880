"""The applications, composed from the rooms: offline files now, surveillance and dashcam later."""
