"""The fixture of all tests of the plugin."""

from tests.kit.plugin_runs import runs as runs
