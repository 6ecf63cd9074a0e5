"""The process that reads callers' media. It imports PyAV, Pillow and numpy, and no other room."""
