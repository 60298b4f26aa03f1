"""The configuration: `load` reads a file, `build` makes a blueprint of it, `default` does without a file.

Nothing is imported here: the engine's values need `model`, but neither YAML nor the rest.
"""
