"""Gunicorn's settings for the application: four workers, eight threads each, keep-alive.

The address is left to the caller (`--bind`). An inspection socket in the home folder would outlive
the demo; it is switched off.
"""

workers = 4
threads = 8
worker_class = "gthread"
keepalive = 60
timeout = 30
graceful_timeout = 3
control_socket_disable = True
