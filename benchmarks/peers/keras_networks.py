"""EfficientNetB0 of Keras, or the paper's U-Net in its layers, on TensorFlow."""

import os

os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402
from steps import arguments, serve_steps  # noqa: E402


def double_conv(x, filters):
    """Applies 3x3 convolution, batch norm and ReLU, twice."""
    for _ in range(2):
        x = layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return x


def unet(size, filters=16, dropout=0.1):
    """Makes the paper's U-Net, as segfusion_jax.UNet is."""
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


def main() -> None:
    """Builds the network and serves its steps."""
    args = arguments()
    if args.network == "unet":
        model, outputs = unet(args.size), (args.batch, *args.size, 1)
    else:
        options = dict(weights=None, classes=1, classifier_activation=None, input_shape=(*args.size, 3))
        model, outputs = keras.applications.EfficientNetB0(**options), (args.batch, 1)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.random((args.batch, *args.size, 3), np.float32))
    targets = tf.constant(rng.integers(0, 2, outputs).astype(np.float32))
    predict = tf.function(lambda x: model(x, training=False))

    def run(steps):
        for _ in range(steps):
            model.train_on_batch(images, targets) if args.mode == "train" else predict(images).numpy()

    serve_steps(run, {"version": f"keras {keras.__version__}, tensorflow {tf.__version__}"}, lambda: None)


main()
