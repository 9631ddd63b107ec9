"""The client API: what data owners, users and recovery key holders can ask for over HTTPS."""
