"""Annotations as people and their tools store them: which grey level is lesion. Plain arrays, nothing of ours."""
