"""stub"""
import cv2, numpy as np
def perceptual_hash(x):
    g = cv2.resize(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return np.packbits(g[:, 1:] > g[:, :-1]).tobytes()
def near_duplicates(hashes): return []
