"""Times one workload in PyTorch: python theirs.py WORKLOAD step|forward|compiled float32|bf16 SECONDS."""

import json
import sys

import torch
from torch import nn
from torch.nn import functional
from workloads import Images, LanguageModel, Layer, Speech, time_calls, workload


class LSTMLanguageModel(nn.Module):
    """Embedding, LSTM layers with dropout between, softmax."""

    def __init__(self, w: LanguageModel):
        super().__init__()
        self.embedding = nn.Embedding(w.vocab_size, w.hidden_size)
        self.lstm = nn.LSTM(w.hidden_size, w.hidden_size, w.num_layers, dropout=w.dropout_rate)
        self.softmax = nn.Linear(w.hidden_size, w.vocab_size)
        self.dropout = nn.Dropout(w.dropout_rate)

    def forward(self, tokens, carry):
        outputs, carry = self.lstm(self.dropout(self.embedding(tokens)), carry)
        return self.softmax(self.dropout(outputs)), carry


class BidirectionalLSTM(nn.Module):
    """Bidirectional LSTM layers and a linear one."""

    def __init__(self, w: Speech):
        super().__init__()
        self.lstm = nn.LSTM(w.num_features, w.hidden_size, w.num_layers, bidirectional=True)
        self.linear = nn.Linear(2 * w.hidden_size, w.num_classes)

    def forward(self, frames):
        return self.linear(self.lstm(frames)[0])


def lenet5(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, num_classes),
    )  # fmt: skip


def cnn_32_64_256(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3136, 256), nn.ReLU(), nn.Linear(256, num_classes),
    )  # fmt: skip


def alexnet(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(), nn.Dropout(),
        nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, num_classes),
    )  # fmt: skip


NETS = {"lenet5": lenet5, "cnn_32_64_256": cnn_32_64_256, "alexnet": alexnet}


def prepare(w, autocast, compiled):
    """A training step and a forward pass, both without arguments."""
    wrap = torch.compile if compiled else lambda module: module
    precision = lambda: torch.autocast("cpu", torch.bfloat16, enabled=autocast)  # noqa: E731
    generator = torch.Generator().manual_seed(0)
    if isinstance(w, Images):
        height, width, channels = w.shape
        images = torch.randint(0, 256, (w.batch_size, channels, height, width), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, w.num_classes, (w.batch_size,), generator=generator)
        net = NETS[w.net](w.num_classes)
        model = wrap(net)
        optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, foreach=True)

        def inputs():
            return (images.float() / 255 - 0.5) / 0.5

        def forward():
            with torch.no_grad(), precision():
                return model(inputs())

        def step():
            with precision():
                loss = functional.cross_entropy(model(inputs()), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return step, forward
    if isinstance(w, Layer):
        layer = {"lstm": nn.LSTM, "gru": nn.GRU}[w.cell](w.hidden_size, w.hidden_size)
        x = torch.randn(w.num_steps, w.batch_size, w.hidden_size, generator=generator, requires_grad=True)
        model, lengths = wrap(layer), torch.tensor(w.lengths)

        def outputs():
            with precision():
                if not w.has_lengths:
                    return model(x)[0]
                packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
                return nn.utils.rnn.pad_packed_sequence(model(packed)[0], total_length=w.num_steps)[0]

        def forward():
            with torch.no_grad():
                return outputs()

        def step():
            layer.zero_grad()
            x.grad = None
            result = outputs()
            result.float().sum().backward()
            return result

        return step, forward
    if isinstance(w, LanguageModel):
        net = LSTMLanguageModel(w)
        tokens = torch.randint(0, w.vocab_size, (w.num_steps, w.batch_size), generator=generator)
        targets = torch.randint(0, w.vocab_size, (w.num_steps, w.batch_size), generator=generator)
        zeros = torch.zeros(w.num_layers, w.batch_size, w.hidden_size)
        model, optimizer = wrap(net), torch.optim.SGD(net.parameters(), 1.0, foreach=True)

        def forward():
            with torch.no_grad(), precision():
                return model(tokens, (zeros, zeros))[0]

        def step():
            with precision():
                logits, _ = model(tokens, (zeros, zeros))
                loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), w.clip_norm)
            optimizer.step()
            return loss

        return step, forward
    net = BidirectionalLSTM(w)
    frames = torch.randn(w.num_steps, w.batch_size, w.num_features, generator=generator)
    labels = torch.randint(1, w.num_classes, (w.batch_size, w.label_length), generator=generator)
    lengths = torch.full((w.batch_size,), w.num_steps), torch.full((w.batch_size,), w.label_length)
    model, optimizer = wrap(net), torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, foreach=True)

    def forward():
        with torch.no_grad(), precision():
            return model(frames)

    def step():
        with precision():
            logits = model(frames)
        loss = functional.ctc_loss(logits.float().log_softmax(-1), labels, *lengths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, forward


def main(name: str, what: str, precision: str, seconds: float) -> None:
    """Times one thing; what: "step", "forward", or "compiled", a step through `torch.compile`."""
    torch.manual_seed(0)
    step, forward = prepare(workload(name), precision == "bf16", what == "compiled")
    print(json.dumps(time_calls(forward if what == "forward" else step, lambda result: None, seconds)))


if __name__ == "__main__":
    main(*sys.argv[1:4], float(sys.argv[4]))
