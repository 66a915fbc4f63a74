"""Send alerts from the topic to an Alertmanager.

outbox.py     alerts that are open, and when each is sent again
forwarder.py  the alerts topic → Alertmanager's API
"""
