"""Attribution: which change of a parameter moved a metric, by how much, and how sure that is.

Works on plain values, `Trial`s, and knows nothing of stores, mounts and the command line. The method and what
simulation says of it are in docs/attribution.md. The modules that compute with numpy (`encoding`, `regression`,
`surrogate`) and the one that asks Optuna (`crosscheck`) are loaded by `numeric` when they are first needed.
"""
