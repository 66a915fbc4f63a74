"""Log in to a cluster, and stay logged in.

oauth.py            tokens for OAUTHBEARER: obtained, renewed, shared by the clients
reauthentication.py connections that log in again before their session ends
"""
