"""The portable backend: OpenVINO on the CPU."""
