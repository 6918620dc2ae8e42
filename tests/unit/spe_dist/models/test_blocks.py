import torch
from torch.nn.functional import gelu, layer_norm, linear

from spe_dist.models.projection_head import ProjectionHead
from spe_dist.models.transform_block import TransformBlock


def block_by_hand(block, x):
    return layer_norm(
        gelu(linear(x, block.linear.weight, block.linear.bias)),
        (block.linear.out_features,),
        block.norm.weight,
        block.norm.bias,
        eps=1e-12,
    )


def randomise(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


def test_a_block_is_linear_gelu_layer_norm():
    block, x = randomise(TransformBlock(6, 4, dropout=0.5)).eval(), torch.randn(10, 6)
    torch.testing.assert_close(block(x), block_by_hand(block, x))


def test_dropout_comes_last():
    block, x = randomise(TransformBlock(6, 400, dropout=0.5)), torch.randn(10, 6)
    out, whole = block(x), block_by_hand(block, x)
    dropped = out == 0
    assert 0.4 < dropped.float().mean() < 0.6
    torch.testing.assert_close(out[~dropped], 2 * whole[~dropped])


def test_new_blocks_start_as_bert_does():
    block = TransformBlock(300, 300, dropout=0.0)
    assert abs(block.linear.weight.std() - 0.02) < 0.001
    assert not block.linear.bias.any()
    assert block.norm.weight.eq(1).all()
    assert not block.norm.bias.any()


def test_the_projection_head_is_two_blocks():
    head, x = randomise(ProjectionHead(3, 7, dropout=0.1)).eval(), torch.randn(5, 3)
    first, second = head.blocks
    torch.testing.assert_close(head(x), block_by_hand(second, block_by_hand(first, x)))
    assert (first.linear.weight.shape, second.linear.weight.shape) == ((7, 3), (7, 7))
