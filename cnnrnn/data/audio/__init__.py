"""Recordings: files of sound, resampling, and sets of utterances with their labels."""
