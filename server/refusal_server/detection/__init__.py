"""The verdict on what the server has answered: whole answers, streams, and samples."""
