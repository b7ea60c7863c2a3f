"""What the project promises: ranges, certificates, verification."""
