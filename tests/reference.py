"""The method's formulas written the obvious way: slow, plain PyTorch, nothing shared with the code under test.

The networks have the state-dict keys of the project's, so that weights go from one to the other. Every network takes
one-hot maps; device and dtype are those of its inputs, and one-hot maps and noise are of the default dtype. Only the
published norms are here: spectral norm with batch norm in the generator, with instance norm in the discriminators and
in SPADE's encoder.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import spectral_norm
from torchvision.models.vgg import cfgs, make_layers


def one_hot(ids, count):
    """[B, 1, H, W] ids -> [B, count, H, W] zeros and ones."""
    return (ids.long() == torch.arange(count, device=ids.device)[:, None, None]).to(torch.get_default_dtype())


def resize(maps, size):
    """Nearest; always decided in float32, so that no dtype picks other pixels."""
    return F.interpolate(maps.float(), size=tuple(size), mode="nearest").to(maps.dtype)


def edges(instance):
    """[B, 1, H, W]: 1 where one of the four direct neighbours has another id."""
    padded = F.pad(instance.float(), (1, 1, 1, 1), mode="replicate")
    centre = padded[:, :, 1:-1, 1:-1]
    neighbours = padded[:, :, 1:-1, :-2], padded[:, :, 1:-1, 2:], padded[:, :, :-2, 1:-1], padded[:, :, 2:, 1:-1]
    return sum(centre != n for n in neighbours).clamp(max=1).to(torch.get_default_dtype())


def lrelu(x):
    return F.leaky_relu(x, 0.2)


# ---- modulations: called as norm(x, semantics, classes, instances, noise)


class ReferenceINADE(nn.Module):
    def __init__(self, channels, num_classes, noise_nc):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(num_classes, channels, 2))
        self.bias = nn.Parameter(torch.zeros(num_classes, channels, 2))
        self.param_free_norm = nn.BatchNorm2d(channels, affine=False)
        self.fc_noise = nn.Linear(noise_nc, channels)

    def forward(self, x, semantics, classes, instances, noise):
        classes, instances = resize(classes, x.shape[2:]), resize(instances, x.shape[2:])
        styles = self.fc_noise(noise)  # [B, K, 2, c]
        scale, shift = (
            torch.einsum("byhw,yc->bchw", classes, self.weight[..., j])
            * torch.einsum("bihw,bic->bchw", instances, styles[:, :, j])
            + torch.einsum("byhw,yc->bchw", classes, self.bias[..., j])
            for j in (0, 1)
        )
        return scale * self.param_free_norm(x) + shift


class ReferenceSPADE(nn.Module):
    def __init__(self, channels, semantic_nc):
        super().__init__()
        self.param_free_norm = nn.BatchNorm2d(channels, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(semantic_nc, 128, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(128, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(128, channels, 3, padding=1)

    def forward(self, x, semantics, classes, instances, noise):
        hidden = self.mlp_shared(resize(semantics, x.shape[2:]))
        return self.param_free_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


# ---- networks


class ReferenceBlock(nn.Module):
    def __init__(self, fin, fout, make_norm):
        super().__init__()
        middle = min(fin, fout)
        self.conv_0 = spectral_norm(nn.Conv2d(fin, middle, 3, padding=1))
        self.conv_1 = spectral_norm(nn.Conv2d(middle, fout, 3, padding=1))
        self.norm_0, self.norm_1 = make_norm(fin), make_norm(middle)
        if fin != fout:
            self.conv_s = spectral_norm(nn.Conv2d(fin, fout, 1, bias=False))
            self.norm_s = make_norm(fin)

    def forward(self, x, *condition):
        shortcut = self.conv_s(self.norm_s(x, *condition)) if hasattr(self, "conv_s") else x
        dx = self.conv_0(lrelu(self.norm_0(x, *condition)))
        return shortcut + self.conv_1(lrelu(self.norm_1(dx, *condition)))


class ReferenceGenerator(nn.Module):
    def __init__(self, opt):
        super().__init__()
        nf, self.layers = opt.ngf, opt.num_upsampling_layers
        width = opt.crop_size // 2 ** {"normal": 5, "more": 6, "most": 7}[self.layers]
        self.size = (round(width / opt.aspect_ratio), width)
        self.from_map = opt.norm_mode == "spade" and not opt.use_vae

        def block(fin, fout):
            return ReferenceBlock(fin, fout, lambda channels: (
                ReferenceINADE(channels, opt.num_classes, opt.noise_nc) if opt.norm_mode == "inade"
                else ReferenceSPADE(channels, opt.semantic_nc)))

        if self.from_map:
            self.fc = nn.Conv2d(opt.semantic_nc, 16 * nf, 3, padding=1)
        else:
            self.fc = nn.Linear(opt.z_dim, 16 * nf * self.size[0] * self.size[1])
        self.head_0 = block(16 * nf, 16 * nf)
        self.G_middle_0 = block(16 * nf, 16 * nf)
        self.G_middle_1 = block(16 * nf, 16 * nf)
        self.up_0 = block(16 * nf, 8 * nf)
        self.up_1 = block(8 * nf, 4 * nf)
        self.up_2 = block(4 * nf, 2 * nf)
        self.up_3 = block(2 * nf, nf)
        if self.layers == "most":
            self.up_4 = block(nf, nf // 2)
        self.conv_img = nn.Conv2d(nf // 2 if self.layers == "most" else nf, 3, 3, padding=1)

    def forward(self, z, semantics, classes, instances=None, noise=None):
        def up(x):
            return F.interpolate(x, scale_factor=2, mode="nearest")

        condition = semantics, classes, instances, noise
        x = self.fc(resize(semantics, self.size)) if self.from_map else self.fc(z).view(len(z), -1, *self.size)
        x = self.head_0(x, *condition)
        x = self.G_middle_0(up(x), *condition)
        x = self.G_middle_1(x if self.layers == "normal" else up(x), *condition)
        for block in (self.up_0, self.up_1, self.up_2, self.up_3):
            x = block(up(x), *condition)
        if self.layers == "most":
            x = self.up_4(up(x), *condition)
        return torch.tanh(self.conv_img(lrelu(x)))


class ReferenceInstanceConv(nn.Conv2d):
    """3x3: of the nine values under the kernel, those of another instance than the centre's are 0."""

    def __init__(self, fin, fout, stride=1):
        super().__init__(fin, fout, 3, stride=stride, padding=1)

    def forward(self, x, instance):
        """:param instance: [B, 1, H, W] ids at the image's size."""
        ids = resize(instance.to(x.dtype) + 1, x.shape[2:])  # 0 is what unfold puts beyond the border
        ids = F.unfold(ids, 3, padding=1, stride=self.stride)[:, None]  # [B, 1, 9, L]
        patches = F.unfold(x, 3, padding=1, stride=self.stride).view(len(x), x.shape[1], 9, -1)
        patches = patches * (ids == ids[:, :, 4:5])
        out = self.weight.flatten(1) @ patches.flatten(1, 2) + self.bias[:, None]  # [B, fout, L]
        return out.view(len(x), -1, *((side + self.stride[0] - 1) // self.stride[0] for side in x.shape[2:]))


class ReferenceInstanceEncoder(nn.Module):
    heads = ("scale_conv_mu", "scale_conv_var", "bias_conv_mu", "bias_conv_var")

    def __init__(self, nf, noise_nc):
        super().__init__()
        for n, (fin, fout) in enumerate([(3, nf), (nf, 2 * nf), (2 * nf, 4 * nf), (4 * nf, 8 * nf)], 1):
            self.add_module(f"layer{n}", ReferenceInstanceConv(fin, fout, stride=2))
        self.middle = ReferenceInstanceConv(8 * nf, 4 * nf)
        self.up1 = ReferenceInstanceConv(8 * nf, 2 * nf)
        self.up2 = ReferenceInstanceConv(4 * nf, nf)
        self.up3 = ReferenceInstanceConv(2 * nf, nf)
        for head in self.heads:
            self.add_module(head, ReferenceInstanceConv(nf, noise_nc))

    def forward(self, image, instance):
        """[B, 3, H, W], [B, 1, H, W] ids -> scale mu, scale logvar, bias mu, bias logvar, [B, K, noise_nc] each."""
        def layer(conv, *inputs):
            return lrelu(F.instance_norm(conv(torch.cat(inputs, 1), instance)))

        def up(x):
            return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

        x1 = layer(self.layer1, image)
        x2 = layer(self.layer2, x1)
        x3 = layer(self.layer3, x2)
        x4 = layer(self.layer4, x3)
        y = up(layer(self.middle, x4))
        y = up(layer(self.up1, y, x3))
        y = up(layer(self.up2, y, x2))
        y = up(layer(self.up3, y, x1))
        return [self.average(self.get_submodule(head)(y, instance), instance) for head in self.heads]

    @staticmethod
    def average(x, instance):
        means = x.new_zeros(len(x), int(instance.max()) + 1, x.shape[1])
        for b in range(means.shape[0]):
            for i in range(means.shape[1]):
                pixels = x[b][:, instance[b, 0] == i]  # [c, n]
                if pixels.shape[1]:
                    means[b, i] = pixels.mean(1)
        return means


class ReferenceImageEncoder(nn.Module):
    """SPADE's encoder."""

    def __init__(self, nf, z_dim):
        super().__init__()
        widths = [3, nf, 2 * nf, 4 * nf, 8 * nf, 8 * nf, 8 * nf]
        for n in range(1, 7):
            conv = spectral_norm(nn.Conv2d(widths[n - 1], widths[n], 3, stride=2, padding=1, bias=False))
            self.add_module(f"layer{n}", nn.Sequential(conv, nn.InstanceNorm2d(widths[n])))
        self.fc_mu = nn.Linear(8 * nf * 16, z_dim)
        self.fc_var = nn.Linear(8 * nf * 16, z_dim)

    def forward(self, image):
        x = F.interpolate(image, size=(256, 256), mode="bilinear", align_corners=False)
        for n in range(1, 7):
            x = lrelu(self.get_submodule(f"layer{n}")(x))
        return self.fc_mu(x.flatten(1)), self.fc_var(x.flatten(1))


class ReferenceDiscriminator(nn.Module):
    def __init__(self, opt):
        super().__init__()
        self.num_D = opt.num_D
        for i in range(opt.num_D):
            layers = nn.ModuleDict()
            width = opt.ndf
            layers["model0"] = nn.Sequential(nn.Conv2d(opt.semantic_nc + 3, width, 4, 2, 2), nn.LeakyReLU(0.2))
            for n in range(1, opt.n_layers_D):
                fin, width = width, min(2 * width, 512)
                stride = 1 if n == opt.n_layers_D - 1 else 2
                conv = spectral_norm(nn.Conv2d(fin, width, 4, stride, 2, bias=False))
                layers[f"model{n}"] = nn.Sequential(nn.Sequential(conv, nn.InstanceNorm2d(width)), nn.LeakyReLU(0.2))
            layers[f"model{opt.n_layers_D}"] = nn.Sequential(nn.Conv2d(width, 1, 4, 1, 2))
            self.add_module(f"discriminator_{i}", layers)

    def forward(self, x):
        """[B, semantic_nc + 3, H, W] -> per discriminator the outputs of its layers."""
        results = []
        for i in range(self.num_D):
            y, outputs = x, []
            for layer in self.get_submodule(f"discriminator_{i}").values():
                y = layer(y)
                outputs.append(y)
            results.append(outputs)
            x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        return results


# ---- losses


def gan_loss(scores, mode, real, for_discriminator):
    """Mean over the score maps of several discriminators."""
    def loss(x):
        if mode == "ls":
            return ((x - float(real)) ** 2).mean()
        if mode == "original":
            return -F.logsigmoid(x if real else -x).mean()
        if mode == "hinge" and for_discriminator:
            return torch.clamp(1 - x if real else 1 + x, min=0).mean()
        return -x.mean() if real else x.mean()  # hinge for the generator, and w

    return sum(loss(x) for x in scores) / len(scores)


def feature_matching_loss(fake, real, first):
    return sum((f - r.detach()).abs().mean()
               for fakes, reals in zip(fake, real, strict=True)
               for f, r in list(zip(fakes, reals, strict=True))[first:-1]) / len(fake)


def kl_divergence(mu, logvar):
    return -0.5 * (1 + logvar - mu**2 - torch.exp(logvar)).sum()


class ReferenceVGGLoss(nn.Module):
    def __init__(self, layer_weights):
        super().__init__()
        self.features = make_layers(cfgs["E"], batch_norm=False)[:30].requires_grad_(False)
        self.layer_weights = layer_weights

    def activations(self, x):
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in (1, 6, 11, 20, 29):  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1
                yield x

    def forward(self, fake, real):
        pairs = zip(self.layer_weights, self.activations(fake), self.activations(real), strict=True)
        return sum(weight * (f - r.detach()).abs().mean() for weight, f, r in pairs)


LITE0_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)  # of the blocks
LITE2_STRIDES = (1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1)


class ReferenceLite:
    """An EfficientNet-Lite as its weights file has it: convolutions without bias, each with its batch norm."""

    def __init__(self, state, strides=LITE0_STRIDES):
        self.state, self.strides = state, strides

    def layer(self, x, name, norm, stride=1):
        """A convolution padded as TensorFlow's "same", and its batch norm."""
        weight = self.state[f"{name}.weight"]
        kernel, padding = weight.shape[2], []
        for size in (x.shape[3], x.shape[2]):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        groups = x.shape[1] if weight.shape[1] == 1 < weight.shape[0] else 1
        x = F.conv2d(F.pad(x, padding), weight, stride=stride, groups=groups)
        mean, var, scale, shift = (self.state[f"{norm}.{key}"]
                                   for key in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, scale, shift, training=False, eps=1e-3)

    def activations(self, x):
        """Of the stem and the blocks, and behind the head."""
        x = self.layer(x, "_conv_stem", "_bn0", 2).clamp(0, 6)
        yield x
        for index, stride in enumerate(self.strides):
            block, y = f"_blocks.{index}", x
            if index:
                y = self.layer(y, f"{block}._expand_conv", f"{block}._bn0").clamp(0, 6)
            y = self.layer(y, f"{block}._depthwise_conv", f"{block}._bn1", stride).clamp(0, 6)
            y = self.layer(y, f"{block}._project_conv", f"{block}._bn2")
            x = x + y if x.shape == y.shape and stride == 1 else y
            yield x
        yield self.layer(x, "_conv_head", "_bn1").clamp(0, 6)


# ---- training


class ReferenceTrainer(nn.Module):
    """All networks and losses, and the two optimisers; ``data`` is what the project's model takes."""

    def __init__(self, opt):
        super().__init__()
        self.opt, self.inade = opt, opt.norm_mode == "inade"
        self.netG, self.netD = ReferenceGenerator(opt), ReferenceDiscriminator(opt)
        self.netE = None
        if opt.use_vae:
            self.netE = (ReferenceInstanceEncoder(opt.ngf, opt.noise_nc) if self.inade
                         else ReferenceImageEncoder(opt.ngf, opt.z_dim))
        if not opt.no_vgg_loss:
            self.vgg = ReferenceVGGLoss((0, 0, 0, 1 / 4, 1) if self.inade else (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1))
        self.to(opt.device)
        encoder = list(self.netE.parameters()) if opt.use_vae else []
        rate_G, rate_D = (opt.lr, opt.lr) if opt.no_TTUR else (opt.lr / 2, 2 * opt.lr)
        betas = (opt.beta1, opt.beta2)
        self.optimizer_G = torch.optim.Adam([*self.netG.parameters(), *encoder], lr=rate_G, betas=betas)
        self.optimizer_D = torch.optim.Adam(self.netD.parameters(), lr=rate_D, betas=betas)

    def copy(self, model):
        """Take over the weights and buffers of the project's model."""
        for name in ("netG", "netD", "netE"):
            if getattr(self, name) is not None:
                getattr(self, name).load_state_dict(getattr(model, name).state_dict())
        if not self.opt.no_vgg_loss:
            self.vgg.features.load_state_dict(model.vgg_loss.vgg.features.state_dict())

    def read(self, data):
        label, instance, image = (data[key].to(self.opt.device) for key in ("label", "instance", "image"))
        classes = one_hot(label, self.opt.num_classes)
        semantics = classes if self.opt.no_instance else torch.cat([classes, edges(instance)], 1)
        return semantics, classes, instance, image

    def generate(self, semantics, classes, instance, image, encode):
        """Fake images, and the KL divergence with an encoder; draws the noise."""
        z, kld = torch.randn(len(image), self.opt.z_dim, device=image.device), None
        if not self.inade:
            if encode:
                mu, logvar = self.netE(image)
                z, kld = z * torch.exp(logvar / 2) + mu, kl_divergence(mu, logvar)
            return self.netG(z, semantics, classes), kld
        count = int(instance.max()) + 1
        noise = torch.randn(len(image), count, 2, self.opt.noise_nc, device=image.device)
        if encode:
            scale_mu, scale_logvar, bias_mu, bias_logvar = self.netE(image, instance)
            mu, logvar = torch.stack([scale_mu, bias_mu], 2), torch.stack([scale_logvar, bias_logvar], 2)
            noise, kld = noise * torch.exp(logvar / 2) + mu, kl_divergence(mu, logvar) / 2
        return self.netG(z, semantics, classes, one_hot(instance, count), noise), kld

    def discriminate(self, semantics, fake, real):
        outputs = self.netD(torch.cat([torch.cat([semantics, fake], 1), torch.cat([semantics, real], 1)]))
        return [[[y.chunk(2)[half] for y in layers] for layers in outputs] for half in (0, 1)]

    @torch.no_grad()
    def infer(self, data, encode):
        return self.generate(*self.read(data), encode)[0]

    def generator_step(self, data):
        semantics, classes, instance, real = self.read(data)
        fake, kld = self.generate(semantics, classes, instance, real, self.netE is not None)
        losses = {} if kld is None else {"KLD": self.opt.lambda_kld * kld}
        fakes, reals = self.discriminate(semantics, fake, real)
        losses["GAN"] = gan_loss([layers[-1] for layers in fakes], self.opt.gan_mode, True, for_discriminator=False)
        if not self.opt.no_ganFeat_loss:
            losses["GAN_Feat"] = self.opt.lambda_feat * feature_matching_loss(fakes, reals, 3 if self.inade else 0)
        if not self.opt.no_vgg_loss:
            losses["VGG"] = self.opt.lambda_vgg * self.vgg(fake, real)
        return self.update(self.optimizer_G, losses)

    def discriminator_step(self, data):
        semantics, classes, instance, real = self.read(data)
        with torch.no_grad():
            fake, _ = self.generate(semantics, classes, instance, real, self.netE is not None)
        fakes, reals = self.discriminate(semantics, fake, real)
        return self.update(self.optimizer_D, {
            name: gan_loss([layers[-1] for layers in outputs], self.opt.gan_mode, is_real, for_discriminator=True)
            for name, outputs, is_real in (("D_Fake", fakes, False), ("D_real", reals, True))})

    @staticmethod
    def update(optimizer, losses):
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}
