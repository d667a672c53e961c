"""What travels between the packages: manifest, bundle, sensors and the values of the runtime."""
