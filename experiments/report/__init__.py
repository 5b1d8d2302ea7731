"""The report: a folder of runs or sweeps as one page that needs no network, for people to look at.

`collect` reads the folder, `figures` and its neighbours turn it into plots and sentences, `scenes` into the moving
fabric, `page` puts them into one file. Nothing here measures or decides anything: every number comes from the store.
"""
