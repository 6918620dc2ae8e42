from spe_dist.engine.zero_footprint import Transfer, padded_elements, zero_memory, zero_transfers

GROUPS = [[143, 221, 221], [11, 17, 17, 17, 13]]  # as the toy's: what DeepSpeed did with them was written down


def payloads(stage, precision, world_size, accumulation):
    transfers = zero_transfers(
        GROUPS, stage=stage, precision=precision, world_size=world_size, accumulation=accumulation
    )
    return {transfer.part: transfer.payload for transfer in transfers}


def test_stages_send_what_was_written_down():
    norm = {"gradient norm": 8}
    assert payloads(1, "fp32", 2, 2) == {"gradients": 2640, "weights": 2656} | norm
    assert payloads(1, "bf16", 2, 2) == {"gradients": 2656, "weights": 1328}
    assert payloads(2, "bf16", 2, 2) == {"gradients": 5280, "weights": 1328} | norm
    assert payloads(3, "bf16", 2, 2) == {"weights": 2 * 1336, "gradients": 2 * 2672, "gradient norm": 16}
    assert payloads(1, "fp32", 1, 1) == {"gradients": 2640} | norm


def test_a_rank_sends_less_than_the_payload_and_twice_that_of_a_sum():
    assert Transfer("x", "all-gather", 800).sent_bytes(4) == 600
    assert Transfer("x", "all-reduce", 800).sent_bytes(4) == 1200
    assert Transfer("x", "all-reduce", 800).sent_bytes(1) == 0


def test_memory_of_many_ranks_is_that_of_one_spread_out():
    for stage in (1, 2, 3):
        for precision in ("fp32", "bf16"):
            one, many = (zero_memory(GROUPS, stage=stage, precision=precision, world_size=size) for size in (1, 4))
            assert (
                many["fp32 master weights"] * 4
                == 4 * padded_elements(GROUPS, stage=stage, world_size=4)
                >= one["fp32 master weights"]
            )
            assert (many["weights"] < one["weights"]) == (stage == 3)
            assert (many["gradients"] < one["gradients"]) == (stage > 1)
