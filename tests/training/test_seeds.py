from segfusion_jax.training.seeds import derive_seed


def test_seeds_of_different_purposes_differ_and_are_the_same_tomorrow():
    purposes = [(0,), (1,), (0, "segment"), (0, "segment", 1), (0, "segment", 2), (0, "segment", "1"), (0, "segment1")]
    seeds = [derive_seed(*purpose) for purpose in purposes]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed(0, "segment") == 170_238_255  # the first 31 bits of the SHA-256 of "(0, 'segment')"
