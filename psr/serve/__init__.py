"""An endpoint for chats, each with its own modules and strengths: the queue, the modules, the routes. Fits and judges nothing."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # names of this machine that no other can reach
