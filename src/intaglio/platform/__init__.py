"""What belongs to the installation as a whole: live settings, server certificates, nodes."""
