"""Tests of the package. Folders mirror its layers; `kit` has the helpers that several of them share."""
