"""A network of Keras on TensorFlow, timed: its EfficientNetB0, or the paper's U-Net."""

import argparse
import os

os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402
from serving import serve  # noqa: E402


def double_conv(x, filters):
    for _ in range(2):
        x = layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return x


def unet(size, filters=16, dropout=0.1):
    x = inputs = keras.Input((*size, 3))
    skips = []
    for level in range(4):
        skips.append(double_conv(x, filters * 2**level))
        x = layers.Dropout(dropout)(layers.MaxPooling2D()(skips[-1]))
    x = double_conv(x, filters * 16)
    for level in reversed(range(4)):
        x = layers.Conv2DTranspose(filters * 2**level, 3, 2, padding="same")(x)
        x = double_conv(layers.Dropout(dropout)(layers.Concatenate()([x, skips[level]])), filters * 2**level)
    return keras.Model(inputs, layers.Conv2D(1, 1)(x))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", choices=("efficientnet_b0", "unet"))
    parser.add_argument("--mode", choices=("train", "predict"))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--size", type=int, nargs=2)
    args = parser.parse_args()
    if args.network == "unet":
        model, shape = unet(args.size), (args.batch, *args.size, 1)
    else:
        model = keras.applications.EfficientNetB0(
            weights=None, classes=1, classifier_activation=None, input_shape=(*args.size, 3)
        )
        shape = (args.batch, 1)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.random((args.batch, *args.size, 3), np.float32))
    targets = tf.constant(rng.integers(0, 2, shape).astype(np.float32))
    predict_step = tf.function(lambda x: model(x, training=False))

    def run(steps):
        for _ in range(steps):
            if args.mode == "train":
                model.train_on_batch(images, targets)
            else:
                predict_step(images).numpy()

    serve(run, {"version": f"keras {keras.__version__}, tensorflow {tf.__version__}"})


main()
