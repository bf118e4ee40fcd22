"""Tests of live views: looks, the model, hot keys, a watched key, sizes, text and the screen."""
