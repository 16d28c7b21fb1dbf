"""Tests of the package. Folders mirror its layers; `support*` modules hold what several of them share."""
