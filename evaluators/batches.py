"""Images as networks are shown them: normalised, on the device, batch by batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.images import Pixels, Split

# Prepared images take up to so much memory in each worker; more of them are prepared batch by batch.
HELD_BYTES = 512 * 2**20
_CHUNK = 512


@dataclass(frozen=True)
class Form:
    """What is done to images [N, H, W, C] (uint8) before a network sees them."""

    size_px: int
    channels: int
    mean: Tensor
    """Of each of the C channels, on the scale 0 to 1."""
    std: Tensor
    device: torch.device

    def __call__(self, images: Pixels) -> Tensor:
        """Normalised images [N, channels, size_px, size_px], float32, channels last, on the device."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
        size = (self.size_px, self.size_px)
        if pixels.shape[2:] != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        pixels = (pixels - self.mean.view(1, -1, 1, 1)) / self.std.view(1, -1, 1, 1)
        # Grey images for a colour network are repeated, colour ones for a grey network mixed.
        if pixels.shape[1] != self.channels:
            pixels = pixels.mean(1, keepdim=True).expand(-1, self.channels, -1, -1)
        return pixels.to(self.device).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, eq=False)
class Unprepared:
    """Stands for a tensor of images [N, channels, size_px, size_px]; parts are prepared when they are asked for."""

    pixels: Pixels
    rows: npt.NDArray[np.int64]
    form: Form

    @property
    def shape(self) -> torch.Size:
        """As of a tensor."""
        return torch.Size((len(self.rows), self.form.channels, self.form.size_px, self.form.size_px))

    def __getitem__(self, chosen: Tensor | slice) -> Tensor:
        rows = self.rows[chosen if isinstance(chosen, slice) else chosen.cpu().numpy()]
        return self.form(self.pixels[rows])


@dataclass(frozen=True, eq=False)
class Batches:
    """A split: images [N, C, H, W] float32, normalised, channels last, on the device; labels [N] there."""

    images: Tensor | Unprepared
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def in_turn(self, parts: Iterable[Tensor | slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of each part, given by its places [n]; prepared while the one before is worked on."""
        if isinstance(self.images, Tensor):
            for part in parts:
                yield self.images[part], self.labels[part]
            return
        with ThreadPoolExecutor(1, "batches") as thread:
            ahead: deque[tuple[Future[Tensor], Tensor]] = deque()
            for part in parts:
                ahead.append((thread.submit(self.images.__getitem__, part), self.labels[part]))
                if len(ahead) > 1:
                    images, labels = ahead.popleft()
                    yield images.result(), labels
            for images, labels in ahead:
                yield images.result(), labels


def slices(count: int, size: int) -> list[slice]:
    """Places 0 … count - 1, cut into parts of up to `size`."""
    return [slice(start, min(count, start + size)) for start in range(0, count, size)]


def statistics(split: Split, limit: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, on the scale 0 to 1, of the images that `prepare` takes."""
    rows, channels = _rows(split, limit), split.images.shape[3]
    counts = np.zeros((channels, 256))
    for chunk in slices(len(rows), _CHUNK):
        part = split.images[rows[chunk]].reshape(-1, channels)
        counts += [np.bincount(part[:, channel], minlength=256) for channel in range(channels)]
    values, total = np.arange(256), counts[0].sum()
    mean = counts @ values / total
    std = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(1) / total)
    return torch.tensor(mean / 255, dtype=torch.float32), torch.tensor(std / 255, dtype=torch.float32).clamp_min(1e-3)


def _rows(split: Split, limit: int) -> npt.NDArray[np.int64]:
    """Places of up to `limit` images, a random part of the split if it has more."""
    # Shuffled once and for all: files are often sorted by class, and norm statistics are estimated on the first ones.
    return np.random.default_rng(0).permutation(len(split))[:limit]


def held_bytes(count: int, form: Form) -> int:
    """What so many images take up once they are prepared; 0 if they are too many to be held."""
    needed = 4 * count * form.channels * form.size_px**2
    return needed if needed <= HELD_BYTES else 0


def prepare(split: Split, limit: int, form: Form) -> Batches:
    """Up to `limit` images, a random part of the split if it has more; too many to be held are prepared as needed."""
    rows = _rows(split, limit)
    labels = torch.from_numpy(split.labels[rows]).to(form.device)
    images = Unprepared(split.images, rows, form)
    if not held_bytes(len(rows), form):
        return Batches(images, labels)
    layout = torch.channels_last if form.channels > 1 else torch.contiguous_format
    held = torch.empty(images.shape, device=form.device, memory_format=layout)
    for part in slices(len(rows), _CHUNK):
        held[part] = images[part]
    return Batches(held, labels)
