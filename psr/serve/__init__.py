"""An endpoint for chats, each with its own modules and strengths: the queue, the modules, the routes. Fits and judges nothing."""
