"""An archive of scenes: a list of pairs in, one map per scene and one table of statistics out.

A scene's map, its scores and a record of what they were made from lie in a folder of its own. The
record is what makes a run resumable: a scene whose content, model and options are still those of
its record is not classified again. Engines differ only in where a scene is classified.
"""
