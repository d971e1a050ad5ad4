"""How messages travel: ZeroMQ sockets with safe options, and the camera stream."""
