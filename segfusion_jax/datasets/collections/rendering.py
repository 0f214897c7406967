"""Drawings of dermoscopic images: skin, a pigmented lesion on it, and what gets between the lesion and the lens.

Light is absorbed: skin colour times exp(-pigment), with one absorption per colour channel, so that browns, near-blacks
and reds come out as they do in tissue. A lesion is drawn once in its own frame and then photographed, so that several
views show the same lesion.
"""

import dataclasses
import functools
import math

import cv2
import numpy as np

HEIGHT, WIDTH = 144, 192  # pixels of a view

_GRID = 224  # pixels of a lesion's own square frame
_EXTENT = 1.75  # its half side, in mean lesion radii
_MELANIN = np.array([0.6, 0.94, 1.16], np.float32)  # absorption of red, green, blue by a unit of pigment
_BLOOD = np.array([0.05, 0.62, 0.5], np.float32)
_VEIL = np.array([0.47, 0.5, 0.55], np.float32)  # blue-grey: pigment deep under scattering tissue
_SKIN = np.array([[0.95, 0.78, 0.73], [0.9, 0.7, 0.61], [0.77, 0.55, 0.44], [0.52, 0.35, 0.26]], np.float32)


@dataclasses.dataclass(frozen=True)
class Lesion:
    """One lesion on one patient's skin.

    Attributes:
      inside: [grid, grid] float32, distance to the border in mean lesion radii, positive inside.
      melanin: [grid, grid] float32, amount of brown pigment, 0 = none.
      blood: [grid, grid] float32, amount of red.
      veil: [grid, grid] float32 in [0, 1], opacity of a blue-grey veil.
      skin: [3] float32 in [0, 1], colour of the skin around.
      radius: mean radius in pixels of a view at unit zoom.
    """

    inside: np.ndarray
    melanin: np.ndarray
    blood: np.ndarray
    veil: np.ndarray
    skin: np.ndarray
    radius: float


def lesion(rng: np.random.Generator, severity: float) -> Lesion:
    """Draws a lesion whose looks follow from `severity` (about 0 for ordinary, 2 for suspicious) and chance alone.

    Severity moves the irregularity of the border, the unevenness and number of colours, the order of the network, and
    the odds of eccentric blotches, a veil and pale scars. It moves neither size nor skin.
    """

    def trait(noise: float = 0.7) -> float:
        return severity + noise * float(rng.standard_normal())

    inside = _border_distance(rng, irregularity=0.06 * math.exp(0.33 * trait()), warp=0.06 * math.exp(0.25 * trait()))
    softness = 0.3 * math.exp(0.35 * rng.standard_normal() - 0.12 * trait())
    opacity = _smoothstep(inside / softness + 0.5)
    depth = np.clip(inside, 0.0, 1.0)
    unevenness = 0.13 * math.exp(0.38 * trait())
    melanin = (0.65 + 0.5 * depth) * (
        1 + unevenness * _noise(rng, 5) + 0.6 * unevenness * _noise(rng, 14) + 0.06 * _noise(rng, 40)
    )
    melanin *= math.exp(0.25 * rng.standard_normal())
    melanin += _network(rng, disorder=0.25 * math.exp(0.45 * trait())) * rng.uniform(0.0, 0.4) * _smoothstep(3 * depth)
    for _ in range(rng.poisson(0.5 * math.exp(0.4 * trait()))):
        melanin += rng.uniform(0.4, 1.5) * _patch(rng, reach=0.75, size=rng.uniform(0.12, 0.4))
    melanin += rng.uniform(0.2, 0.8) * _globules(rng, number=rng.poisson(14) * (rng.random() < 0.35))
    if rng.random() < 0.6 / (1 + math.exp(2.2 - 1.2 * trait())):
        melanin *= 1 - rng.uniform(0.5, 0.9) * _patch(rng, reach=0.6, size=rng.uniform(0.2, 0.4))
    veil = np.zeros_like(inside)
    if rng.random() < 1 / (1 + math.exp(2.6 - 1.3 * trait())):
        veil = rng.uniform(0.35, 0.7) * _patch(rng, reach=0.5, size=rng.uniform(0.25, 0.5))
    blood = rng.uniform(0.0, 0.25) + 0.18 * math.exp(0.25 * trait()) * np.maximum(_noise(rng, 4), 0)
    return Lesion(
        inside=inside,
        melanin=np.clip(melanin, 0.05, 4.0) * opacity,
        blood=blood * opacity + 0.12 * _smoothstep(1 + inside / 0.5) * rng.random(),
        veil=veil * opacity,
        skin=_skin_colour(rng),
        radius=float(np.clip(math.exp(rng.normal(np.log(36.0), 0.22)), 20.0, 56.0)),
    )


def view(rng: np.random.Generator, drawn: Lesion) -> tuple[np.ndarray, np.ndarray]:
    """Photographs a lesion: its own position, turn, light, focus, hairs, ruler, gel and dark corners at each call.

    Returns:
      The image [HEIGHT, WIDTH, 3] uint8 RGB and the lesion's exact mask [HEIGHT, WIDTH] uint8, 0 or 255.
    """
    fields = np.dstack([drawn.inside, drawn.melanin, drawn.blood, drawn.veil])
    fields = cv2.warpAffine(fields, _camera(rng, drawn.radius), (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
    inside, melanin, blood, veil = (fields[..., i, None] for i in range(4))
    texture = _skin_texture(rng)
    melanin = melanin * (1 + 0.8 * texture) + 0.5 * texture
    flush = 0.07 * _noise(rng, 5, (HEIGHT, WIDTH))[..., None]
    image = drawn.skin * np.exp(-melanin * _MELANIN - (blood + flush) * _BLOOD)
    image += veil * (_VEIL * drawn.skin.mean() / 0.75 - image)
    image = _occlude(rng, image)
    image = image * _light(rng) * np.exp(rng.normal(0, [0.05, 0.035, 0.06]))
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.35, 0.9))
    image = image + rng.normal(0, rng.uniform(0.004, 0.014), image.shape)
    mask = np.where(inside[..., 0] > 0, 255, 0).astype(np.uint8)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), mask


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _noise(rng: np.random.Generator, cells: int, size: tuple[int, int] = (_GRID, _GRID)) -> np.ndarray:
    """Draws smooth noise of zero mean and unit variance with about `cells` bumps along a side."""
    coarse = rng.standard_normal((cells, cells), np.float32)
    fine = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return (fine - fine.mean()) / (fine.std() + 1e-6)


@functools.cache
def _plane() -> tuple[np.ndarray, np.ndarray]:
    """Returns coordinates x and y of the lesion's frame, in mean lesion radii."""
    axis = np.linspace(-_EXTENT, _EXTENT, _GRID, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def _border_distance(rng: np.random.Generator, *, irregularity: float, warp: float) -> np.ndarray:
    """Returns the distance to a closed curve of random harmonics; `warp` bends the plane, which tears the symmetry."""
    x, y = _plane()
    x, y = x + warp * _noise(rng, 5), y + warp * _noise(rng, 5)
    stretch = math.exp(0.5 * rng.normal(0.12, 0.1))
    x, y = x / stretch, y * stretch
    angle = np.arange(1441) * (2 * np.pi / 1440)
    order = np.arange(2, 10)[:, None]
    amplitude = min(irregularity, 0.17) * rng.standard_normal((8, 1)) / (order / 2) ** 0.85
    curve = 1 + (amplitude * np.cos(order * angle + rng.uniform(0, 2 * np.pi, (8, 1)))).sum(0)
    curve = np.clip(curve, 0.45, 1.4).astype(np.float32)
    quarter_degrees = (cv2.phase(x, y, angleInDegrees=True) * 4).astype(np.int32)
    frame = _EXTENT - 0.15 - np.maximum(*map(np.abs, _plane()))  # no lesion reaches the frame's edge
    return np.minimum(curve[quarter_degrees] - cv2.magnitude(x, y), frame)


def _network(rng: np.random.Generator, *, disorder: float) -> np.ndarray:
    """Draws a honeycomb of lines in [0, 1]: three plane waves, bent and faded by `disorder`."""
    x, y = _plane()
    bend = 0.02 + 0.06 * disorder
    x, y = x + bend * _noise(rng, 12), y + bend * _noise(rng, 12)
    pitch = rng.uniform(34, 54)
    directions = rng.uniform(0, np.pi) + np.arange(3) * (2 * np.pi / 3)
    waves = sum(np.cos(pitch * (x * np.cos(a) + y * np.sin(a)) + rng.uniform(0, 6)) for a in directions)
    lines = np.clip(0.5 - 0.45 * waves, 0, 1)
    return lines * np.clip(0.6 + (0.6 + min(disorder, 1.2)) * _noise(rng, 5), 0, 2.5)


def _patch(rng: np.random.Generator, *, reach: float, size: float) -> np.ndarray:
    """Draws a cloud in [0, 1] of radius `size` at a random place within `reach` of the centre."""
    x, y = _plane()
    angle, distance = rng.uniform(0, 2 * np.pi), reach * np.sqrt(rng.random())
    away = cv2.magnitude(x - float(distance * np.cos(angle)), y - float(distance * np.sin(angle)))
    return _smoothstep((size - away) / (1.1 * size) + 0.4 + 0.4 * _noise(rng, 9))


def _globules(rng: np.random.Generator, *, number: int) -> np.ndarray:
    drawn = np.zeros((_GRID, _GRID), np.float32)
    for _ in range(number):
        angle, distance = rng.uniform(0, 2 * np.pi), 0.85 * np.sqrt(rng.random())
        centre = _GRID / 2 + distance * np.array([np.cos(angle), np.sin(angle)]) * _GRID / (2 * _EXTENT)
        cv2.circle(drawn, tuple(int(c) for c in centre), int(rng.integers(1, 4)), 1.0, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(drawn, (0, 0), 1.0)


def _skin_colour(rng: np.random.Generator) -> np.ndarray:
    tone = 3 * rng.beta(1.3, 3.2)
    shades = [np.interp(tone, range(4), _SKIN[:, channel]) for channel in range(3)]
    return (np.array(shades) * np.exp(rng.normal(0, [0.02, 0.035, 0.04]))).astype(np.float32)


def _camera(rng: np.random.Generator, radius: float) -> np.ndarray:
    """Draws an affine map from the lesion's frame to a view: zoom, turn, mirror and shift."""
    zoom = radius * np.exp(rng.normal(0, 0.08)) * 2 * _EXTENT / _GRID
    turn = rng.uniform(0, 2 * np.pi)
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear[:, 0] *= rng.choice([-1, 1])
    room = np.maximum(np.array([WIDTH, HEIGHT]) / 2 - 1.15 * radius, 4.0)
    centre = np.array([WIDTH, HEIGHT]) / 2 + np.clip(rng.normal(0, 0.45, 2), -1, 1) * room
    shift = centre - linear @ np.full(2, _GRID / 2)
    return np.column_stack([linear, shift])


def _skin_texture(rng: np.random.Generator) -> np.ndarray:
    """Draws uneven pigment of the skin itself [HEIGHT, WIDTH, 1], of zero mean: clouds, pores and furrows."""
    size = (HEIGHT, WIDTH)
    grain = cv2.GaussianBlur(rng.standard_normal(size, np.float32), (0, 0), 1.1)
    furrows = np.abs(_noise(rng, 18, size)) - 0.8
    texture = 0.03 * _noise(rng, 6, size) + 0.09 * grain - 0.035 * rng.random() * furrows
    return texture[..., None]


def _light(rng: np.random.Generator) -> np.ndarray:
    """Draws the brightness of each pixel [HEIGHT, WIDTH, 1]: exposure, a slope, a vignette, sometimes a black rim."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j].astype(np.float32)
    light = np.exp(rng.normal(0.0, 0.07)) * (1 + x * rng.normal(0, 0.04) + y * rng.normal(0, 0.04))
    away = np.hypot(x * WIDTH / HEIGHT, y)
    light = light * (1 - rng.beta(1.2, 4) * 0.45 * np.clip(away - 0.35, 0, None) ** 2)
    kind = rng.random()
    if kind < 0.2:
        light = light * (1 - rng.uniform(0.4, 0.9) * _smoothstep((away - rng.uniform(1.05, 1.3)) / 0.45))
    elif kind < 0.27:
        light = light * (1 - 0.97 * _smoothstep((away - rng.uniform(1.15, 1.4)) / 0.06))
    return light[..., None]


def _occlude(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Lays hairs, a ruler and gel bubbles over the image, each at odds that know nothing of the lesion."""
    if rng.random() < 0.45:
        image = _hairs(rng, image, number=int(rng.geometric(0.12)))
    if rng.random() < 0.13:
        image = _ruler(rng, image)
    if rng.random() < 0.2:
        image = _bubbles(rng, image, number=int(rng.integers(2, 14)))
    return image


def _hairs(rng: np.random.Generator, image: np.ndarray, *, number: int) -> np.ndarray:
    shade = np.array([0.2, 0.13, 0.1]) * rng.uniform(0.5, 2.2)
    lie = rng.uniform(0, np.pi)
    cover = np.zeros((HEIGHT, WIDTH), np.uint8)
    along = np.linspace(-1, 1, 16)
    for _ in range(min(number, 30)):
        angle, bend = lie + rng.normal(0, 0.5), rng.normal(0, 14)
        length = rng.uniform(20, 110)
        x = length * along * np.cos(angle) - bend * (along**2) * np.sin(angle) + rng.uniform(0, WIDTH)
        y = length * along * np.sin(angle) + bend * (along**2) * np.cos(angle) + rng.uniform(0, HEIGHT)
        points = (np.column_stack([x, y]) * 16).astype(np.int32)
        cv2.polylines(cover, [points], False, int(rng.integers(120, 245)), 1, cv2.LINE_AA, 4)
    opacity = cover[..., None] / np.float32(255)
    return image + opacity * (shade - image)


def _ruler(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    cover = np.zeros((HEIGHT, WIDTH), np.uint8)
    step, edge, tilt = rng.uniform(5, 11), rng.uniform(1, 12), rng.normal(0, 0.05)
    for tick in range(int(WIDTH / step) + 2):
        length = 11 if tick % 10 == 0 else 8 if tick % 5 == 0 else 5
        x, y = tick * step, edge + tick * step * tilt
        start, end = (int(x * 16), int(y * 16)), (int((x - length * tilt) * 16), int((y + length) * 16))
        cv2.line(cover, start, end, 210, 1, cv2.LINE_AA, 4)
    if rng.random() < 0.5:
        cover = cover[::-1]
    return image * (1 - 0.8 * cover[..., None] / np.float32(255))


def _bubbles(rng: np.random.Generator, image: np.ndarray, *, number: int) -> np.ndarray:
    rims, glints = np.zeros((2, HEIGHT, WIDTH), np.float32)
    middle = rng.uniform(0, [WIDTH, HEIGHT])
    for _ in range(number):
        x, y = (middle + rng.normal(0, 28, 2)).astype(int).tolist()
        radius = int(rng.integers(2, 9))
        cv2.circle(rims, (x, y), radius, 1.0, 1, cv2.LINE_AA)
        cv2.circle(glints, (x - radius // 2, y - radius // 2), max(1, radius // 5), 1.0, -1)
    rims, glints = cv2.GaussianBlur(rims, (0, 0), 0.7)[..., None], cv2.GaussianBlur(glints, (0, 0), 0.6)[..., None]
    return image * (1 - 0.3 * rims) + 0.12 * rims + 0.5 * glints * (1 - image)
