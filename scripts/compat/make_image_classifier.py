import sys

sys.path[0] = sys.path[0].removesuffix("scripts/compat")  # else `import retrain` would find retrain.py
sys.exit(__import__("retrain.compat").compat.main(__file__))
