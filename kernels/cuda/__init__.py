"""What runs on an NVIDIA GPU, through CuPy. Nothing here is imported before a device array is seen."""
