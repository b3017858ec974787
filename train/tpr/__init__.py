"""TPR: local features that learn by themselves from plain photos (CVPR 2023), as a library.

    tpr.train(photos, config="s", out="weights.safetensors")
    network = tpr.load_network("weights.safetensors")

It knows nothing of structure from motion; `tpsfm` builds on it.
"""
