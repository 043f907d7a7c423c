"""The slides' recurrent net, S_t = tanh(U x_t + W S_{t-1}), O_t = softmax(V S_t), no biases, on the Penn Treebank.

Source: the slides' equations; Mikolov et al. 2010 for the task. For comparison: a vanilla net of 13 M parameters with
  dropout reaches a test perplexity of 114.50 (Bai, Kolter, Koltun 2018, table 1). This one has one layer of 200, and
  is trained for four passes only.
Command: python -m cnnrnn.main --config configs/ptb_vanilla.py --workdir runs/ptb_vanilla
  --config.data.manual_dir=FOLDER, where FOLDER holds ptb.train.txt, ptb.valid.txt and ptb.test.txt
Hardware: two CPU cores, about a quarter of an hour.
Score: not measured: it has not been trained to its end.
"""

from ml_collections import ConfigDict

EPOCH = -(-46_480 // 20)  # steps in a pass: 929,589 tokens in 20 rows, 20 at a time


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="language_modelling.LanguageModelling"),
            model=dict(
                name="recurrent_lm.RecurrentLM",
                cell="vanilla",
                hidden_size=200,
                num_layers=1,
                use_bias=False,
                init_scale=0.1,
            ),
            data=dict(
                name="text.stream",
                source="penn_treebank",
                unit="whitespace",
                batch_size=20,
                window=20,
                data_dir=None,
                manual_dir=None,
            ),
            optim=dict(
                name="adam",
                learning_rate=2e-3,
                schedule="step",
                transition_begin=EPOCH,
                transition_steps=EPOCH,
                decay_rate=0.5,
                clip_norm=1.0,
            ),
            train=dict(num_steps=4 * EPOCH, log_every=200, eval_every=EPOCH, checkpoint_every=EPOCH // 2),
        )
    )
