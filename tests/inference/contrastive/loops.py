"""The dense methods again, written with loops over images, heads and tokens, straight from the papers' formulas."""

import math

import torch
from torch.nn.functional import gelu, interpolate


def activation(name, x):
    if name == "quick_gelu":
        return x * torch.sigmoid(1.702 * x)
    return gelu(x, approximate="tanh" if name == "gelu_pytorch_tanh" else "none")


def norm(module, x):
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + module.eps) * module.weight + module.bias


def linear(module, x):
    return x @ module.weight.T + (0 if module.bias is None else module.bias)


def mlp(module, x, name):
    return linear(module.fc2, activation(name, linear(module.fc1, x)))


def positions(model, grid, antialias):
    """Position embeddings of the tokens of one image."""
    weight = model.vision_model.embeddings.position_embedding.weight
    first = weight[:1] if model.config.model_type == "clip" else weight[:0]
    patches = weight[len(first) :]
    side = round(math.sqrt(len(patches)))
    if grid == (side, side):
        return weight
    table = patches.reshape(side, side, -1).permute(2, 0, 1)[None]
    table = (
        interpolate(table, grid, mode="bicubic", antialias=True)[0] if antialias else cubic(table[0], grid)
    )
    return torch.cat([first, table.permute(1, 2, 0).reshape(grid[0] * grid[1], -1)])


def cubic(table, grid):
    """Bicubic interpolation (a = -0.75) at (i + 0.5) * side / (size + 0.1) - 0.5, borders repeated."""

    def weight(distance):
        a, d = -0.75, abs(distance)
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    side = table.shape[-1]
    result = torch.zeros(len(table), *grid)
    for y in range(grid[0]):
        for x in range(grid[1]):
            row, column = ((i + 0.5) * side / (n + 0.1) - 0.5 for i, n in zip((y, x), grid, strict=True))
            for r in range(math.floor(row) - 1, math.floor(row) + 3):
                for c in range(math.floor(column) - 1, math.floor(column) + 3):
                    value = table[:, min(max(r, 0), side - 1), min(max(c, 0), side - 1)]
                    result[:, y, x] += weight(row - r) * weight(column - c) * value
    return result


def tokens_of(model, image, antialias):
    """The input of the first block [tokens, C] and the grid."""
    tower = model.vision_model
    convolution = tower.embeddings.patch_embedding
    side = convolution.kernel_size[0]
    grid = image.shape[1] // side, image.shape[2] // side
    patches = []
    for y in range(grid[0]):
        for x in range(grid[1]):
            patch = image[:, y * side : (y + 1) * side, x * side : (x + 1) * side]
            value = (convolution.weight * patch).sum(dim=(1, 2, 3))
            patches.append(value if convolution.bias is None else value + convolution.bias)
    tokens = torch.stack(patches)
    if model.config.model_type == "clip":
        tokens = torch.cat([tower.embeddings.class_embedding[None], tokens])
    tokens = tokens + positions(model, grid, antialias)
    return (norm(tower.pre_layrnorm, tokens) if model.config.model_type == "clip" else tokens), grid


def by_heads(attention, hidden):
    """q, k and v, each a list of [tokens, C / heads]."""
    return {
        name: linear(getattr(attention, f"{name}_proj"), hidden).chunk(attention.num_heads, dim=-1)
        for name in "qkv"
    }


def weights_of(a, b, scale):
    """The softmax of each token's similarities, token by token."""
    return torch.stack([torch.softmax((token @ b.T) * scale, dim=-1) for token in a])


def attend(attention, hidden, pairs):
    """O(Av) with A the sum of the softmaxes of the pairs; the identity without pairs."""
    parts, heads = by_heads(attention, hidden), []
    for head in range(attention.num_heads):
        q, k, v = (parts[name][head] for name in "qkv")
        named = {"q": q, "k": k, "v": v}
        matrix = torch.zeros(len(v), len(v))
        for a, b in pairs:
            matrix += weights_of(named[a], named[b], v.shape[-1] ** -0.5)
        if not pairs:
            matrix = torch.eye(len(v))
        heads.append(matrix @ v)
    return linear(attention.out_proj, torch.cat(heads, dim=-1))


def self_self(attention, hidden):
    """GEM's attention."""
    parts, heads = by_heads(attention, hidden), []
    temperature = sum(token.norm() for token in hidden) / len(hidden)
    for head in range(attention.num_heads):
        v = parts["v"][head]
        scale = temperature * v.shape[-1] ** -0.5
        total = torch.zeros_like(v)
        for name in "qkv":
            z = parts[name][head]
            z = z / z.norm(dim=-1, keepdim=True)
            z = weights_of(z, z, scale) @ z
            z = z / z.norm(dim=-1, keepdim=True)
            total += weights_of(z, z, scale) @ v
        heads.append(total / 3)
    return linear(attention.out_proj, torch.cat(heads, dim=-1))


def block(layer, x, name):
    x = x + attend(layer.self_attn, norm(layer.layer_norm1, x), ["qk"])
    return x + mlp(layer.mlp, norm(layer.layer_norm2, x), name)


def last_tokens(model, x, method):
    layers, name = list(model.vision_model.encoder.layers), model.config.vision_config.hidden_act
    if method == "gem":
        start = max(0, len(layers) - 6)
        for layer in layers[:start]:
            x = block(layer, x, name)
        gem = x
        for layer in layers[start:]:
            gem = gem + self_self(layer.self_attn, norm(layer.layer_norm1, x))
            x = block(layer, x, name)
        return gem
    for layer in layers[:-1]:
        x = block(layer, x, name)
    layer = layers[-1]
    hidden = norm(layer.layer_norm1, x)
    if method == "clearclip":
        return attend(layer.self_attn, hidden, ["qq"])
    if method == "segearth-ov":
        return attend(layer.self_attn, hidden, ["qq", "kk", "vv"])
    pairs = {"clip": ["qk"], "maskclip": [], "sclip": ["qq", "kk"]}[method]
    x = x + attend(layer.self_attn, hidden, pairs)
    return x + mlp(layer.mlp, norm(layer.layer_norm2, x), name)


@torch.no_grad()
def dense_features(model, pixel_values, method):
    """As geoclick.inference.contrastive.dense.dense_features, image by image."""
    features, tokens = [], []
    for image in pixel_values:
        x, grid = tokens_of(model, image, method == "gem")
        x = norm(model.vision_model.post_layernorm, last_tokens(model, x, method))
        if model.config.model_type == "clip":
            x = x @ model.visual_projection.weight.T
            tokens.append(x[0])
            x = x[1:]
        else:
            x = pooled_alone(model.vision_model.head, x, model.config.vision_config.hidden_act)
        features.append(x.reshape(*grid, -1))
    return torch.stack(features), torch.stack(tokens) if tokens else None


def pooled_alone(head, x, name):
    """SigLIP's pooling head over each token alone, by the module's own attention."""
    results = []
    for token in x:
        one = token[None, None]
        attended = head.attention(head.probe, one, one)[0][0, 0]
        results.append(attended + mlp(head.mlp, norm(head.layernorm, attended), name))
    return torch.stack(results)


def bilinear(values, size):
    """Values [C, h, w] at another size, value by value; pixel centers correspond, borders are repeated."""
    result = torch.zeros(len(values), *size)
    height, width = values.shape[1:]
    for y in range(size[0]):
        row = max((y + 0.5) * height / size[0] - 0.5, 0)
        top, down = min(int(row), height - 1), row - int(row)
        for x in range(size[1]):
            column = max((x + 0.5) * width / size[1] - 0.5, 0)
            left, right = min(int(column), width - 1), column - int(column)
            below, next_column = min(top + 1, height - 1), min(left + 1, width - 1)
            result[:, y, x] = (1 - down) * (
                (1 - right) * values[:, top, left] + right * values[:, top, next_column]
            ) + down * ((1 - right) * values[:, below, left] + right * values[:, below, next_column])
    return result


@torch.no_grad()
def window_logits(model, resized, size, text, method, window, stride, bias, mean, std):
    """As dense.window_logits of an image that is resized already, uint8 [h, w, 3], one window after another."""
    height, width = resized.shape[:2]
    pixels = torch.tensor(resized).permute(2, 0, 1) / 255
    pixels = torch.stack([(pixels[c] - mean[c]) / std[c] for c in range(3)])
    patch = model.vision_model.embeddings.patch_embedding.kernel_size[0]
    total, count = torch.zeros(len(text), height, width), torch.zeros(height, width)
    rows = max(height - window + stride - 1, 0) // stride + 1
    columns = max(width - window + stride - 1, 0) // stride + 1
    for row in range(rows):
        for column in range(columns):
            bottom, end = min(row * stride + window, height), min(column * stride + window, width)
            top, left = max(bottom - window, 0), max(end - window, 0)
            h, w = bottom - top, end - left
            padded_h, padded_w = math.ceil(h / patch) * patch, math.ceil(w / patch) * patch
            above, before = (padded_h - h) // 2, (padded_w - w) // 2
            padded = torch.zeros(3, padded_h, padded_w)
            padded[:, above : above + h, before : before + w] = pixels[:, top:bottom, left:end]
            features, token = dense_features(model, padded[None], method)
            grid = features[0] / features[0].norm(dim=-1, keepdim=True)
            cosines = torch.stack([grid @ query for query in text])
            if bias:
                cosines += (
                    bias * torch.stack([token[0] / token[0].norm() @ query for query in text])[:, None, None]
                )
            large = bilinear(cosines, (padded_h, padded_w))
            total[:, top:bottom, left:end] += large[:, above : above + h, before : before + w]
            count[top:bottom, left:end] += 1
    return bilinear(total / count, size)


def labels(logits, classes, scale, threshold, background):
    """As dense.labels, pixel by pixel."""
    result = torch.zeros(logits.shape[1:], dtype=torch.int64)
    for y in range(logits.shape[1]):
        for x in range(logits.shape[2]):
            odds = [math.exp(scale * float(value)) for value in logits[:, y, x]]
            best = [0.0] * (max(classes) + 1)
            for number, one in zip(classes, odds, strict=True):
                best[number] = max(best[number], one / sum(odds))
            result[y, x] = best.index(max(best)) if max(best) >= threshold else background
    return result
