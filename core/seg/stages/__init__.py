"""The stages of the pipeline, one module each.

check, fingerprint, plan, preprocess, train, validate, bundle, predict, evaluate, report; and run, which is the chain of
them. Each is a function of its own and a command of its own.
"""
