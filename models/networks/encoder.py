"""Encoders: per-instance styles from an image (INADE, Section 3.3), and SPADE's image encoder."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layout import Layout
from models.networks.normalization import LEAKY_SLOPE, InstanceNorm, normalized_conv
from models.networks.spectral import power_iteration
from models.networks.styles import ImagePosterior, InstancePosterior
from models.ops.instance_convolution import InstanceConv2d, InstanceGrid, patch_sums
from models.ops.plain import rows_at
from models.ops.regions import rows_of
from util.precision import full_precision, no_autocast


class InstanceEncoder(nn.Module):
    """A U-Net of instance-aware convolutions whose four outputs are averaged over every instance (Section 3.3).

    :param num_classes: of how many classes means are subtracted from the posterior's (``--fitted_prior``); 0: none.
    """

    def __init__(self, ngf: int, noise_nc: int, num_classes: int = 0):
        super().__init__()
        self.register_buffer("class_means", torch.zeros(num_classes, 2, noise_nc) if num_classes else None)
        self.norm = InstanceNorm(LEAKY_SLOPE)
        self.layer1 = InstanceConv2d(3, ngf, stride=2)
        self.layer2 = InstanceConv2d(ngf, 2 * ngf, stride=2)
        self.layer3 = InstanceConv2d(2 * ngf, 4 * ngf, stride=2)
        self.layer4 = InstanceConv2d(4 * ngf, 8 * ngf, stride=2)
        self.middle = InstanceConv2d(8 * ngf, 4 * ngf)
        self.up1 = InstanceConv2d(8 * ngf, 2 * ngf)
        self.up2 = InstanceConv2d(4 * ngf, ngf)
        self.up3 = InstanceConv2d(2 * ngf, ngf)
        self.scale_conv_mu = InstanceConv2d(ngf, noise_nc)
        self.scale_conv_var = InstanceConv2d(ngf, noise_nc)
        self.bias_conv_mu = InstanceConv2d(ngf, noise_nc)
        self.bias_conv_var = InstanceConv2d(ngf, noise_nc)

    def forward(self, image: Tensor, layout: Layout) -> InstancePosterior:
        """``image`` [B, 3, H, W] in [-1, 1], sides multiples of 16."""
        grid = layout.instance_grid

        def down(layer: InstanceConv2d, x: Tensor) -> Tensor:
            return self.norm(layer(x, grid))

        def up(layer: InstanceConv2d, x: Tensor) -> Tensor:
            return F.interpolate(down(layer, x), scale_factor=2, mode="bilinear", align_corners=False)

        x1 = down(self.layer1, image)  # [B, nf, H/2, W/2]
        x2 = down(self.layer2, x1)  # [B, 2nf, H/4, W/4]
        x3 = down(self.layer3, x2)  # [B, 4nf, H/8, W/8]
        x4 = down(self.layer4, x3)  # [B, 8nf, H/16, W/16]
        y = up(self.middle, x4)  # [B, 4nf, H/8, W/8]
        y = up(self.up1, torch.cat([y, x3], dim=1))  # [B, 2nf, H/4, W/4]
        y = up(self.up2, torch.cat([y, x2], dim=1))  # [B, nf, H/2, W/2]
        y = up(self.up3, torch.cat([y, x1], dim=1))  # [B, nf, H, W]
        return InstancePosterior(*self._heads(y, grid, layout))

    def _heads(self, y: Tensor, grid: InstanceGrid, layout: Layout) -> list[Tensor]:
        """The four heads, averaged over every instance: four tensors [B, K, noise_nc].

        Convolution and average are both linear, so the 3x3 patches are averaged first, and one small product follows;
        see :func:`~models.ops.instance_convolution.patch_sums`.
        """
        heads = (self.scale_conv_mu, self.scale_conv_var, self.bias_conv_mu, self.bias_conv_var)
        neighbourhoods = grid.neighbourhoods(y.shape[2:], 1)
        sizes = neighbourhoods.regions.sizes
        patches = patch_sums(rows_of(y), neighbourhoods) / sizes.clamp(min=1)[:, None, None]  # [T, 9, nf]
        weight = torch.cat([head.weight for head in heads])  # [4*noise_nc, nf, 3, 3]
        bias = torch.cat([head.bias for head in heads])
        with no_autocast(y.device):
            pooled = torch.addmm(bias, patches.flatten(1), weight.permute(2, 3, 1, 0).flatten(0, 2))
        if self.class_means is not None:  # of an instance of several classes: their mean over its pixels
            means = neighbourhoods.regions.sum(rows_at(layout.label.flatten(), self.class_means).flatten(1))
            means = (means / sizes.clamp(min=1)[:, None]).unflatten(1, (2, 1, -1))  # of scale and shift
            pooled = pooled - F.pad(means, (0, 0, 0, 1)).flatten(1)
        styles = pooled.new_zeros(layout.batch_size, layout.instance_rows, pooled.shape[1])
        styles = styles.index_put(grid.regions.ids, pooled * (sizes > 0)[:, None])  # 0 for ids that no pixel has
        return list(styles[:, :layout.num_instances].chunk(4, dim=2))


class ImageEncoder(nn.Module):
    """SPADE's encoder: one Gaussian [z_dim] per image."""

    size = 256  # images are resized to 256x256

    def __init__(self, ngf: int, z_dim: int, norm: str):
        super().__init__()
        widths = [3, ngf, 2 * ngf, 4 * ngf, 8 * ngf, 8 * ngf, 8 * ngf]
        for n in range(1, 7):
            self.add_module(f"layer{n}", normalized_conv(norm, widths[n - 1], widths[n], 3, 2, 1))
        self.fc_mu = nn.Linear(8 * ngf * 4 * 4, z_dim)
        self.fc_var = nn.Linear(8 * ngf * 4 * 4, z_dim)

    def forward(self, image: Tensor, layout: Layout | None = None) -> ImagePosterior:
        """``image`` [B, 3, H, W] in [-1, 1]; the layout makes no difference. In training, this makes a power
        iteration."""
        if self.training:
            power_iteration(self)
        x = image
        if x.shape[2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        for n in range(1, 7):
            x = F.leaky_relu(self.get_submodule(f"layer{n}")(x), LEAKY_SLOPE)
        x = x.flatten(1)
        return ImagePosterior(full_precision(self.fc_mu(x)), full_precision(self.fc_var(x)))
