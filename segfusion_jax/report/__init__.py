"""The report of a run, and the blocks that any page of results is made of.

table = Table("Accuracy", ("Model", "ROC-AUC"), [("mine", Estimate(0.93, 0.91, 0.95)), ("theirs", 0.9)])
page.write(path, Page(title="Mine and theirs", verdict="Mine is better.", sections=[Section("Results", [table])]))
"""
