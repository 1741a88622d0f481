r"""Pass images through a code of a few bits, so that small changes of the input leave it as it was: :class:`LQVAE`.

**Problem.** A classifier is fixed and may be fed images with adversarial noise. A filter in front of it is to remove
the noise in one forward pass, and sees neither the classifier nor an attack when it is trained.

**Code.** Images on [-1, 1]. An encoder gives :math:`(\mu, \log \sigma^2)`, and :math:`z = \mu + \frac\tau2 \sigma
\varepsilon` with normal :math:`\varepsilon`. Every latent becomes one bit,

.. math:: q(z) = \operatorname{sign}(\tau^2 - z^2), \quad \operatorname{sign} 0 = 1, \qquad
          \tilde q(z) = \operatorname{softsign}\bigl(\kappa (\tau^2 - z^2)\bigr), \quad
          \operatorname{softsign} u = \frac{u}{1 + |u|},

plus one inside the slab :math:`|z| \le \tau`. Decoder :math:`G_1` reads the soft code and teaches the encoder;
:math:`G_2` reads the hard one, and is what the filter :math:`x \mapsto G_2(q(\mu(x)))` uses.

**Losses**, one for each of three players, with means over pixels, batch and latents:

.. math::
    \mathrm{KL} + \lambda_r \|x - G_1(\tilde q)\|^2 + \lambda_g \mathrm{GP} \ (E), \qquad
    \lambda_r \|x - G_1(\tilde q)\|^2 \ (G_1), \qquad \lambda_r \|x - G_2(q)\|^2 \ (G_2),

.. math:: \mathrm{GP} = \frac1n \sum_i \Bigl(\ell - \bigl\|\nabla_x \textstyle\sum_j \mu_j(x_i)\bigr\|_2\Bigr)^2.

If :math:`\mu_j` has Lipschitz constant :math:`L_j` and its threshold is farther than :math:`L_j \|\delta\|_2`, the bit
does not flip: :func:`code_stability` says of how many inputs that can be proved, and of how many it is likely.

=================== ==============================================================================================
symbol in the paper name here
=================== ==============================================================================================
E, G_1, G_2         ``encoder`` (mean and log-variance, 2 ``latent_dim`` columns), ``soft_decoder``, ``hard_decoder``
q, soft q           ``hard_code``, ``soft_code``
tau, kappa          ``tau``, ``slope``
lambda_r, lambda_g  ``lambda_rec``, ``lambda_gp``
l                   ``lipschitz_target``
=================== ==============================================================================================

Source: Vinay Kyatham and others, 2019, arXiv 1903.09940; numbers follow the public code.

Departures. Images are on [0, 1] at the boundary. The penalty's norm may be that of the steepest latent (``"max_row"``)
or the spectral one of the whole Jacobian; the code's ``"sum"`` is small also where latents are steep and cancel.
``n_bits > 1`` is ours: latents are rounded at :math:`2^b - 1` thresholds, tau apart and centred at zero, and the soft
code's steps are as steep as the slab's. Without rounding (``n_bits=None``) and with ``noise_scale=1`` and
``lambda_gp=0`` it is an ordinary variational autoencoder.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int8
from scipy.stats import norm as normal
from torch import Tensor, nn

from lodim.linalg.precision import as_tensor
from lodim.nets.activations import batches_of, evaluation_mode, model_device
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, root_seed
from lodim.results import Result
from lodim.training import DescentRecipe, DescentResult, Player, descend
from lodim.validation import check_choice, check_counts, check_in_range, check_numbers, checked

__all__ = ["LQVAE", "CodeStability", "code_stability"]

MODES = ("sum", "max_row", "spectral")
Number = int | float | np.number
_DECAY, _EVERY, _FLOOR = 0.98, 10_000, 5e-5 / 3e-4  # of the learning rate


@checked
class LQVAE(nn.Module):
    """A variational autoencoder whose latents are rounded to bits, as a filter for images on [0, 1].

    Parameters
    ----------
    encoder : nn.Module, optional
        Images on [-1, 1] to means and log-variances, shape (n, 2 ``latent_dim``). By default four 3 x 3 convolutions
        and two dense layers.
    decoder : nn.Module, optional
        Codes (n, ``latent_dim``) to images on [-1, 1]; the two decoders are it and a copy.
    latent_dim : int
    tau : float
        Half the width of the slab.
    slope : float
        Of the soft code.
    lipschitz_target : float
    lambda_gp, lambda_rec : float
        Weights of gradient penalty and reconstruction.
    image_shape : tuple of int
        Channels, height, width; sides must be multiples of 4 for the default networks.
    n_bits : int or None
        Bits a latent; None rounds nothing.
    noise_scale : float, optional
        Of the noise on the latents, ``tau / 2`` unless given. One is an ordinary variational autoencoder's.
    lipschitz_mode : {"sum", "max_row", "spectral"}
        Which norm of the encoder's Jacobian is held at the target. The last two take ``latent_dim`` backward passes.
    width : int
        Channels of the default networks; their dense layer has 16 times as many.

    Attributes
    ----------
    straight_through : bool
        Whether ``forward`` lets the soft code's gradient through, which is what an adaptive attack switches on.

    Raises
    ------
    ValueError
        Images of another shape or outside [0, 1].

    Examples
    --------
    >>> import torch
    >>> from lodim.trust import LQVAE
    >>> model = LQVAE(latent_dim=8, width=4)
    >>> model.encode_bits(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 8])
    """

    straight_through: bool
    code_prior: Tensor

    def __init__(
        self,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        latent_dim: int = 64,
        tau: Number = 0.1,
        slope: Number = 500,
        lipschitz_target: Number = 0.1,
        lambda_gp: Number = 10,
        lambda_rec: Number = 10,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        *,
        n_bits: int | None = 1,
        noise_scale: Number | None = None,
        lipschitz_mode: str = "sum",
        width: int = 64,
    ) -> None:
        super().__init__()
        check_counts(latent_dim=latent_dim, width=width)
        if not isinstance(image_shape, tuple | list) or len(image_shape) != 3:
            raise ValueError(f"image_shape must be (channels, height, width), got {image_shape!r:.80}")
        for side in image_shape:
            check_in_range(side, "image_shape", low=1, integer=True)
        if n_bits is not None:
            check_in_range(n_bits, "n_bits", low=1, high=7, integer=True)
        width = int(width)
        self.latent_dim, self.image_shape, self.n_bits = int(latent_dim), tuple(map(int, image_shape)), n_bits
        self.tau, self.slope = (_positive(v, n) for v, n in ((tau, "tau"), (slope, "slope")))
        self.lipschitz_target = float(check_in_range(lipschitz_target, "lipschitz_target", low=0))
        self.lambda_gp = float(check_in_range(lambda_gp, "lambda_gp", low=0))
        self.lambda_rec = _positive(lambda_rec, "lambda_rec")
        self.noise_scale = float(
            self.tau / 2 if noise_scale is None else check_in_range(noise_scale, "noise_scale", low=0)
        )
        self.lipschitz_mode = check_choice(lipschitz_mode, MODES, "lipschitz_mode")
        self.encoder = encoder if encoder is not None else _encoder(self.image_shape, self.latent_dim, width)
        if decoder is not None:
            self.soft_decoder, self.hard_decoder = decoder, copy.deepcopy(decoder)
        else:
            self.soft_decoder = _decoder(self.image_shape, self.latent_dim, width)
            self.hard_decoder = _decoder(self.image_shape, self.latent_dim, width)
        self.register_buffer("code_prior", self._normal_prior())
        self.straight_through = False

    # ---- code

    def hard_code(self, z: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Round latents to -1 and 1, or to 2 ** ``n_bits`` levels from -1 to 1."""
        if self.n_bits is None:
            return z
        if self.n_bits == 1:
            return torch.where(self.tau**2 - z.square() >= 0, 1.0, -1.0).to(z.dtype)
        steps = torch.where(z[..., None] >= self._thresholds(z), 1.0, -1.0).to(z.dtype)
        return steps.mean(-1)

    def soft_code(self, z: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """What has a gradient in the place of the hard code."""
        if self.n_bits is None:
            return z
        if self.n_bits == 1:
            return nn.functional.softsign(self.slope * (self.tau**2 - z.square()))
        return nn.functional.softsign(2 * self.tau * self.slope * (z[..., None] - self._thresholds(z))).mean(
            -1
        )

    def _thresholds(self, z: Tensor) -> Tensor:
        """Where codes change: the slab's two sides, or 2 ** b - 1 points a distance tau apart."""
        if self.n_bits == 1:
            return torch.tensor([-self.tau, self.tau], dtype=z.dtype, device=z.device)
        count = 2 ** int(self.n_bits or 0) - 1
        return self.tau * (torch.arange(count, dtype=z.dtype, device=z.device) - (count - 1) / 2)

    def encode(self, x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
        """Means and log-variances of the latents."""
        return self._encode(self._scaled(x))

    def _encode(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        out = self.encoder(scaled)
        if out.shape[1:] != (2 * self.latent_dim,):
            raise ValueError(
                f"the encoder must return {2 * self.latent_dim} numbers an image, means and log-variances of "
                f"latent_dim={self.latent_dim} latents, got shape {tuple(out.shape)}"
            )
        mean, logvar = out.chunk(2, dim=1)
        return mean, logvar

    def _scaled(self, x: Tensor, name: str = "images") -> Tensor:
        """Images of the right shape and range, on [-1, 1]; NaN is said of what the caller knows them by."""
        if not isinstance(x, Tensor):
            raise TypeError(f"images must be a Tensor, got {type(x).__name__}; use torch.as_tensor(images)")
        if tuple(x.shape[1:]) != self.image_shape:
            raise ValueError(f"images must have shape (n, {str(self.image_shape)[1:]}, got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"images must be floating-point numbers on [0, 1], got {x.dtype}; divide by 255")
        if not torch.compiler.is_compiling() and x.numel():
            low, high = x.detach().aminmax()
            if low.isnan():
                raise ValueError(f"{name} must be on [0, 1], but have NaN; drop or impute those")
            if not (low >= 0 and high <= 1):
                raise ValueError(
                    f"images must be on [0, 1], got values from {float(low):.4g} to {float(high):.4g}; "
                    "divide bytes by 255"
                )
        return 2 * x - 1

    @torch.no_grad()
    def encode_bits(self, x: Float[Tensor, "n c h w"]) -> Int8[Tensor, "n bits"]:
        """The code's bits, -1 and 1: ``latent_dim`` of them, or ``n_bits`` a latent, highest digit first."""
        if self.n_bits is None:
            raise ValueError("n_bits=None rounds nothing: there are no bits")
        code = self.hard_code(self.encode(x)[0])
        places = 2 ** torch.arange(self.n_bits - 1, -1, -1, device=code.device)
        digits = self._levels(code)[..., None] // places % 2
        return (2 * digits - 1).flatten(1).to(torch.int8)

    def _levels(self, code: Tensor) -> Tensor:
        """Codes from -1 to 1 as numbers 0, 1, ..."""
        return ((code + 1) / 2 * (2 ** int(self.n_bits or 0) - 1)).round().long()

    # ---- filter

    def filter(self, x: Float[Tensor, "n c h w"], straight_through: bool = False) -> Float[Tensor, "n c h w"]:
        """What the hard decoder makes of an image's code, on [0, 1].

        With ``straight_through`` it is the same to the last bit, and its gradient that of the soft code.
        """
        mean, _ = self.encode(x)
        code = self.hard_code(mean)
        if straight_through:
            soft = self.soft_code(mean)
            code = code + (soft - soft.detach())  # adds exact zeros
        return (self.hard_decoder(code) + 1) / 2

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """:meth:`filter`, with or without a gradient as ``straight_through`` says."""
        return self.filter(x, self.straight_through)

    # ---- losses and training

    def losses(self, x: Float[Tensor, "n c h w"]) -> dict[str, Tensor]:
        """The players' losses ``encoder``, ``soft``, ``hard``, and the terms ``kl``, ``gp``."""
        scaled = self._scaled(x)
        encoder, kl, gp, z = self._encoder_loss(scaled)
        z = z.detach()
        soft = self._reconstruction(self.soft_decoder, self.soft_code(z), scaled)
        hard = self._reconstruction(self.hard_decoder, self.hard_code(z), scaled)
        return {"encoder": encoder, "soft": soft, "hard": hard, "kl": kl, "gp": gp}

    def loss(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
        """One number whose gradient is every player's own: the encoder's loss and that of the hard decoder."""
        scaled = self._scaled(x)
        encoder, _, _, z = self._encoder_loss(scaled)
        return encoder + self._reconstruction(self.hard_decoder, self.hard_code(z.detach()), scaled)

    def _encoder_loss(self, scaled: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The encoder's loss, its terms KL and GP, and the latents drawn."""
        penalised = self.lambda_gp > 0
        with torch.set_grad_enabled(torch.is_grad_enabled() or penalised):
            seen = scaled.detach().requires_grad_() if penalised else scaled
            mean, logvar = self._encode(seen)
            gp = self._penalty(mean, seen) if penalised else mean.new_zeros(())
        kl = ((mean.square() + logvar.exp() - 1 - logvar) / 2).mean()
        z = self._draw(mean, logvar)
        rebuilt = self._reconstruction(self.soft_decoder, self.soft_code(z), scaled)
        return kl + rebuilt + self.lambda_gp * gp, kl, gp, z

    def _draw(self, mean: Tensor, logvar: Tensor) -> Tensor:
        return mean + self.noise_scale * (logvar / 2).exp() * torch.randn_like(mean)

    def _reconstruction(self, decoder: nn.Module, code: Tensor, scaled: Tensor) -> Tensor:
        rebuilt = decoder(code)
        if rebuilt.shape != scaled.shape:
            raise ValueError(
                f"the decoder must return images of shape {tuple(scaled.shape)}, got {tuple(rebuilt.shape)}"
            )
        return self.lambda_rec * (rebuilt - scaled).square().mean()

    def _penalty(self, mean: Tensor, scaled: Tensor) -> Tensor:
        """GP: squared distance of the Jacobian's norm from the target."""
        along = torch.ones_like(mean)
        if self.lipschitz_mode != "sum":  # the norm is that of one combination of rows, which depends on x
            eye = torch.eye(self.latent_dim, dtype=mean.dtype, device=mean.device)
            eye = eye[:, None, :].expand(-1, len(mean), -1)
            (rows,) = torch.autograd.grad(mean, scaled, eye, retain_graph=True, is_grads_batched=True)
            rows = rows.flatten(2).transpose(0, 1)
            gram = rows @ rows.transpose(1, 2)
            if self.lipschitz_mode == "max_row":
                along = nn.functional.one_hot(gram.diagonal(dim1=1, dim2=2).argmax(1), self.latent_dim).to(
                    mean
                )
            else:
                along = torch.linalg.eigh(gram)[1][..., -1]
        (slope,) = torch.autograd.grad(mean, scaled, along, create_graph=True)
        return (self.lipschitz_target - (slope.flatten(1).square().sum(1) + 1e-12).sqrt()).square().mean()

    @checked
    def fit(
        self,
        x: Any,
        steps: int | np.integer = 10_000,
        *,
        batch_size: int | np.integer = 64,
        lr: Number = 3e-4,
        random_state: RandomState = 0,
        **options: Any,
    ) -> DescentResult:
        """Train the three players in turn, and count the training images' codes.

        Parameters
        ----------
        x : array-like or Tensor, shape (n, c, h, w)
            Clean images on [0, 1].
        steps, batch_size, lr
            RMSprop's rate decays by 0.98 every 10,000 steps.
        random_state : int, Generator or None
        **options
            Of :func:`lodim.training.descend`: ``progress``, ``checkpoint``, ``deadline``, ...
        """
        check_counts(batch_size=batch_size)
        images = self._images(x)

        def of(decoder: nn.Module, code: Any) -> Any:
            def loss(scaled: Tensor) -> Tensor:
                with torch.no_grad():
                    read = code(self._draw(*self._encode(scaled)))
                return self._reconstruction(decoder, read, scaled)

            return loss

        players = [
            Player(lambda scaled: self._encoder_loss(scaled)[0], self.encoder),
            Player(of(self.soft_decoder, self.soft_code), self.soft_decoder),
            Player(of(self.hard_decoder, self.hard_code), self.hard_decoder),
        ]
        recipe = DescentRecipe(
            steps=int(steps),
            lr=float(lr),
            batch_size=int(batch_size),
            optimizer=partial(torch.optim.RMSprop, alpha=0.9),
            schedule=lambda step: max(_DECAY ** (step / _EVERY), _FLOOR),
        )
        seed = root_seed(random_state)
        self.train()
        done = descend(players, None, recipe, self._scaled(images), random_state=seed, **options)
        self.eval()
        if self.n_bits is not None:
            self.fit_code_prior(images)
        return done

    def _images(self, x: Any, name: str = "x") -> Tensor:
        weight = next((p for p in self.parameters() if p.is_floating_point()), torch.zeros(()))
        images = as_tensor(x, name).detach().to(weight.dtype)
        if not images.ndim or not len(images):
            raise ValueError(
                f"{name} must hold images, shape (n, {str(self.image_shape)[1:]}, got {tuple(images.shape)}"
            )
        self._scaled(images, name)  # refuses what is none
        return images

    # ---- samples

    def _normal_prior(self) -> Float[Tensor, "k levels"]:
        """Shares of the levels where latents are standard normal."""
        if self.n_bits is None:
            return torch.ones(self.latent_dim, 1)
        ends = normal.cdf(self._thresholds(torch.zeros((), dtype=torch.float64)).numpy())
        shares = np.diff(ends, prepend=0.0, append=1.0)
        if self.n_bits == 1:
            shares = np.array([shares[0] + shares[2], shares[1]])
        return torch.from_numpy(shares).float().repeat(self.latent_dim, 1)

    @torch.no_grad()
    def fit_code_prior(self, x: Any) -> LQVAE:
        """Count how often each latent of some images has each level; :meth:`sample` draws from it.

        Parameters
        ----------
        x : array-like or Tensor, shape (n, c, h, w)
        """
        if self.n_bits is None:
            raise ValueError("n_bits=None rounds nothing: there is no code to count")
        images, counts = self._images(x), torch.zeros_like(self.code_prior)
        with evaluation_mode(self):
            for part in batches_of(images, 1024):
                levels = self._levels(self.hard_code(self.encode(part.to(model_device(self)))[0]))
                counts += nn.functional.one_hot(levels, counts.shape[1]).sum(0)
        self.code_prior.copy_(counts / len(images))
        return self

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Float[Tensor, "n c h w"]:
        """Images of latents drawn one by one from the code's shares; without rounding, from a standard normal."""
        check_in_range(n, "n", low=0, integer=True)
        weight = next(self.hard_decoder.parameters())
        if self.n_bits is None:
            code = torch.randn(n, self.latent_dim, generator=generator)
        else:
            shares = self.code_prior.detach().cpu()
            drawn = torch.rand(n, self.latent_dim, 1, generator=generator)
            levels = (drawn > shares.cumsum(1)[:, :-1]).sum(-1)
            code = 2 * levels / (shares.shape[1] - 1) - 1
        return (self.hard_decoder(code.to(weight)) + 1) / 2


def _positive(value: Number, name: str) -> float:
    if not 0 < check_in_range(value, name) < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return float(value)


def _encoder(shape: tuple[int, ...], latent_dim: int, width: int) -> nn.Module:
    c, h, w = _divisible(shape)
    wide, hidden = 2 * width, 16 * width
    layers = [
        nn.Conv2d(c, width, 3, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, wide, 3, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(wide, wide, 3, padding=1), nn.LeakyReLU(0.2), nn.Flatten(),
        nn.Linear(wide * (h // 4) * (w // 4), hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 2 * latent_dim),
    ]  # fmt: skip
    return nn.Sequential(*layers).apply(_start)


def _decoder(shape: tuple[int, ...], latent_dim: int, width: int) -> nn.Module:
    c, h, w = _divisible(shape)
    wide, hidden = 2 * width, 16 * width
    twice: dict[str, Any] = {"stride": 2, "padding": 1, "output_padding": 1}
    layers = [
        nn.Linear(latent_dim, hidden), nn.LeakyReLU(0.2),
        nn.Linear(hidden, wide * (h // 4) * (w // 4)), nn.LeakyReLU(0.2), nn.Unflatten(1, (wide, h // 4, w // 4)),
        nn.ConvTranspose2d(wide, wide, 3, padding=1), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(wide, wide, 3, **twice), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(wide, width, 3, **twice), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(width, c, 3, padding=1), nn.Tanh(),
    ]  # fmt: skip
    return nn.Sequential(*layers).apply(_start)


def _divisible(shape: tuple[int, ...]) -> tuple[int, int, int]:
    c, h, w = shape
    if h % 4 or w % 4:
        raise ValueError(
            f"the default networks need sides that are multiples of 4, got image_shape={shape}; pad the images, or "
            "give encoder and decoder"
        )
    return c, h, w


def _start(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


# ---- how far a code is from another


@dataclass(frozen=True)
class CodeStability(Result):
    """Shares of inputs whose code stays the same under every change of a Euclidean size.

    Attributes
    ----------
    radii : tuple of float
        On the scale of the images, [0, 1].
    proven : tuple of float or None
        Proofs, by a Lipschitz constant of the encoder that holds everywhere, in exact arithmetic; None where the
        encoder has layers without a known constant.
    estimated : tuple of float
        No proof: the gradient at the input is taken to hold as far as the radius.
    n_samples : int
    """

    radii: tuple[float, ...]
    proven: tuple[float, ...] | None
    estimated: tuple[float, ...]
    n_samples: int

    def to_frame(self) -> Any:
        """Return one row a radius: radius, proven, estimated."""
        import pandas as pd

        proven = self.proven or (math.nan,) * len(self.radii)
        return pd.DataFrame({"radius": self.radii, "proven": proven, "estimated": self.estimated})

    def plot(self, ax: Any = None) -> Any:
        """Draw both shares over the radius, and return the axes."""
        ax = new_axes(ax)
        if self.proven is not None:
            ax.plot(self.radii, self.proven, marker="o", color=COLORS[0], label="proven")
        ax.plot(self.radii, self.estimated, marker="o", color=COLORS[1], label="local estimate")
        ax.set(xlabel="Euclidean size of the change", ylabel="inputs whose code stays", ylim=(0, 1.02))
        ax.legend()
        return ax

    def __str__(self) -> str:
        lines = [f"share of {self.n_samples:,} inputs whose code stays, under changes of Euclidean size"]
        for i, radius in enumerate(self.radii):
            proof = "no proof possible" if self.proven is None else f"{self.proven[i]:.3f} proven"
            lines.append(f"  {radius:.4g}: {proof}, {self.estimated[i]:.3f} by the local gradient (no proof)")
        return "\n".join(lines)


@checked
@torch.inference_mode(False)
def code_stability(model: LQVAE, X: Any, radii: Any = (0.01, 0.03, 0.1, 0.3, 1.0)) -> CodeStability:
    r"""Measure of how many images no bit of the code can flip.

    A latent's distance :math:`m_j` from its nearest threshold is divided by a bound on how fast it moves; the image's
    least quotient is compared with the radius. **Proof:** :math:`L_j`, the product of the layers' operator norms,
    with the last layer's row of that latent. A convolution with zero padding is a part of a circular one on the padded
    image, whose norm is the largest singular value of its transfer matrices over all frequencies. **Local estimate:**
    the norm of :math:`\nabla \mu_j` at the image, which may grow on the way. Both are computed in double precision. A
    change of largest entry r has a Euclidean size of up to r times the root of the number of pixels.

    Parameters
    ----------
    model : LQVAE
    X : array-like or Tensor, shape (n, c, h, w)
        Images on [0, 1].
    radii : array-like, shape (m,)

    Raises
    ------
    ValueError
        A model that rounds nothing.
    """
    if model.n_bits is None:
        raise ValueError("n_bits=None rounds nothing: there is no code that could stay")
    sizes = sorted(
        {float(check_in_range(r, "radii", low=0)) for r in np.ravel(check_numbers(radii, "radii")).tolist()}
    )
    images = model._images(X, "X")
    exact = copy.deepcopy(model).double().eval()
    bounds = _latent_bounds(exact)
    proven, estimated = [], []
    for part in batches_of(images, 128):
        x = part.to(model_device(model)).double().requires_grad_()
        mean, _ = exact.encode(x)
        away = (mean.detach()[..., None] - exact._thresholds(mean)).abs().amin(-1)
        eye = torch.eye(model.latent_dim, dtype=x.dtype, device=x.device)[:, None].expand(-1, len(x), -1)
        (rows,) = torch.autograd.grad(mean, x, eye, is_grads_batched=True)
        slopes = rows.flatten(2).norm(dim=2).T
        estimated.append((away / slopes.clamp(min=1e-300)).amin(1))
        if bounds is not None:
            proven.append((away / bounds.clamp(min=1e-300)).amin(1))
    near = torch.cat(estimated)
    sure = torch.cat(proven) if proven else None
    return CodeStability(
        tuple(sizes),
        None if sure is None else tuple(float((sure > r).double().mean()) for r in sizes),
        tuple(float((near > r).double().mean()) for r in sizes),
        len(images),
    )


_KNOWN = (nn.Linear, nn.Conv2d, nn.LeakyReLU, nn.ReLU, nn.Tanh, nn.Flatten, nn.Identity, nn.Dropout)


def _latent_bounds(model: LQVAE) -> Float[Tensor, " k"] | None:
    """Lipschitz constant of each mean, for images on [0, 1]; None where a layer is of no known kind."""
    bound, size = 2.0, model.image_shape[1:]
    layers = _layers(model.encoder)
    if not isinstance(layers[-1], nn.Linear) or any(type(layer) not in _KNOWN for layer in layers):
        return None  # what is derived from a known layer may do anything
    for layer in layers[:-1]:
        if isinstance(layer, nn.Linear):
            bound *= float(torch.linalg.matrix_norm(layer.weight.detach(), 2))
        elif isinstance(layer, nn.Conv2d):
            known = _circular_norm(layer, size)
            if known is None:
                return None
            bound, size = bound * known[0], known[1]
        elif isinstance(layer, nn.LeakyReLU):
            bound *= max(1.0, abs(layer.negative_slope))
    return bound * layers[-1].weight.detach()[: model.latent_dim].norm(dim=1)


def _layers(net: nn.Module) -> list[nn.Module]:
    """Layers in the order in which they are applied, one that comes twice twice; a part of another kind is one."""
    if type(net) is not nn.Sequential or not len(net):
        return [net]
    return [layer for part in net for layer in _layers(part)]


def _circular_norm(layer: nn.Conv2d, size: tuple[int, ...]) -> tuple[float, tuple[int, ...]] | None:
    """Upper bound of a convolution's operator norm and the size of what it returns; strides only leave rows out."""
    plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    if not plain or isinstance(layer.padding, str):
        return None
    padded = tuple(s + 2 * p for s, p in zip(size, layer.padding))
    transfer = torch.fft.rfft2(layer.weight.detach(), s=padded).permute(2, 3, 0, 1)
    after = tuple((s - k) // t + 1 for s, k, t in zip(padded, layer.kernel_size, layer.stride))
    return float(torch.linalg.svdvals(transfer).max()), after
