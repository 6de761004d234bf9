"""Reference nets of the blocks, with the published numbers of parameters."""

from keras_fitkit.blocks.nets.mobile import mobilenet_v2 as mobilenet_v2
from keras_fitkit.blocks.nets.mobile import shufflenet_v2 as shufflenet_v2
from keras_fitkit.blocks.nets.rep import repvgg_a0 as repvgg_a0
from keras_fitkit.blocks.nets.tiny import ds_cnn as ds_cnn
from keras_fitkit.blocks.nets.tiny import resnet8 as resnet8

__all__ = ["ds_cnn", "mobilenet_v2", "repvgg_a0", "resnet8", "shufflenet_v2"]
