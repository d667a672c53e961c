"""What travels between the rooms: manifest, bundle, sensors and the values of the runtime."""
